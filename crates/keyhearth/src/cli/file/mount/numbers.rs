//! The numbers by which the kernel knows files and folders.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The number of the folder that is mounted.
pub const ROOT: u64 = 1;

struct Node {
    /// Where it is; nowhere once it was removed.
    path: Option<PathBuf>,
    /// How often the kernel was told of it.
    lookups: u64,
}

/// Numbers, and the paths within the folder that they stand for.
pub struct Numbers {
    nodes: HashMap<u64, Node>,
    numbers: HashMap<PathBuf, u64>,
    next: u64,
}

impl Numbers {
    /// Of the root alone.
    pub fn new() -> Self {
        let root = Node { path: Some(PathBuf::new()), lookups: 1 };
        Self {
            nodes: HashMap::from([(ROOT, root)]),
            numbers: HashMap::from([(PathBuf::new(), ROOT)]),
            next: ROOT + 1,
        }
    }

    /// The path of this number.
    pub fn path(&self, number: u64) -> Option<&Path> {
        self.nodes.get(&number)?.path.as_deref()
    }

    /// The number of this path, if it has one.
    pub fn number(&self, path: &Path) -> Option<u64> {
        self.numbers.get(path).copied()
    }

    /// The number of this path, of which the kernel is told.
    pub fn look_up(&mut self, path: PathBuf) -> u64 {
        let number = *self.numbers.entry(path.clone()).or_insert(self.next);
        if number == self.next {
            self.next += 1;
        }
        self.nodes.entry(number).or_insert(Node { path: Some(path), lookups: 0 }).lookups += 1;
        number
    }

    /// What was at `from`, and in it, is at `to`.
    pub fn rename(&mut self, from: &Path, to: &Path) {
        self.remove(to);
        let moved: Vec<_> = self.numbers.extract_if(|path, _| path.starts_with(from)).collect();
        for (path, number) in moved {
            let path = moved_to(&path, from, to);
            if let Some(node) = self.nodes.get_mut(&number) {
                node.path = Some(path.clone());
            }
            self.numbers.insert(path, number);
        }
    }

    /// Nothing is at `path` any more, nor in it.
    pub fn remove(&mut self, path: &Path) {
        for (_, number) in self.numbers.extract_if(|at, _| at.starts_with(path)) {
            if let Some(node) = self.nodes.get_mut(&number) {
                node.path = None;
            }
        }
    }

    /// The kernel forgets it so many times.
    pub fn forget(&mut self, number: u64, lookups: u64) {
        let Some(node) = self.nodes.get_mut(&number).filter(|_| number != ROOT) else { return };
        node.lookups = node.lookups.saturating_sub(lookups);
        if node.lookups == 0
            && let Some(path) = self.nodes.remove(&number).and_then(|node| node.path)
        {
            self.numbers.remove(&path);
        }
    }
}

/// Where what is at `path` is once `from`, which it is or is in, is at `to`.
pub fn moved_to(path: &Path, from: &Path, to: &Path) -> PathBuf {
    match path.strip_prefix(from) {
        Ok(inside) if !inside.as_os_str().is_empty() => to.join(inside),
        Ok(_) | Err(_) => to.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_kept_as_long_as_the_kernel_knows_it() {
        let mut numbers = Numbers::new();
        let path = |text: &str| PathBuf::from(text);
        let a = numbers.look_up(path("a"));
        assert_eq!((a, numbers.look_up(path("a"))), (2, 2));
        let b = numbers.look_up(path("b"));
        numbers.forget(a, 1);
        assert_eq!((numbers.number(&path("a")), numbers.path(a)), (Some(a), Some(Path::new("a"))));
        numbers.forget(a, 1);
        assert_eq!(
            (numbers.number(&path("a")), numbers.path(a), numbers.path(b)),
            (None, None, Some(Path::new("b")))
        );
        assert!(numbers.look_up(path("a")) > b);
        numbers.forget(ROOT, 9);
        assert_eq!(numbers.number(Path::new("")), Some(ROOT));
    }

    #[test]
    fn numbers_go_with_what_is_renamed_and_stay_of_what_is_removed() {
        let mut numbers = Numbers::new();
        let path = |text: &str| PathBuf::from(text);
        let [folder, inside, other, beside] =
            ["a", "a/x/y", "b", "ab"].map(|text| numbers.look_up(path(text)));
        numbers.rename(&path("a"), &path("b"));
        assert_eq!(numbers.path(folder), Some(&*path("b")));
        assert_eq!(numbers.path(inside), Some(&*path("b/x/y")));
        assert_eq!((numbers.path(other), numbers.path(beside)), (None, Some(&*path("ab"))));
        assert_eq!((numbers.number(&path("b")), numbers.number(&path("a"))), (Some(folder), None));
        numbers.remove(&path("b/x"));
        assert_eq!((numbers.path(inside), numbers.path(folder)), (None, Some(&*path("b"))));
        let again = numbers.look_up(path("b/x/y"));
        numbers.forget(inside, 1);
        assert_eq!(numbers.number(&path("b/x/y")), Some(again));
    }
}
