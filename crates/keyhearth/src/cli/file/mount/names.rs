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
pub struct Names {
    nodes: HashMap<u64, Node>,
    numbers: HashMap<PathBuf, u64>,
    next: u64,
}

impl Names {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_kept_as_long_as_the_kernel_knows_it() {
        let mut names = Names::new();
        let path = |text: &str| PathBuf::from(text);
        let a = names.look_up(path("a"));
        assert_eq!((a, names.look_up(path("a"))), (2, 2));
        let b = names.look_up(path("b"));
        names.forget(a, 1);
        assert_eq!((names.number(&path("a")), names.path(a)), (Some(a), Some(Path::new("a"))));
        names.forget(a, 1);
        assert_eq!(
            (names.number(&path("a")), names.path(a), names.path(b)),
            (None, None, Some(Path::new("b")))
        );
        assert!(names.look_up(path("a")) > b);
        names.forget(ROOT, 9);
        assert_eq!(names.number(Path::new("")), Some(ROOT));
    }
}
