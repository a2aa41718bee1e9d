//! Reads the vector files: `name: value` lines, a blank line between cases, `#` for comments.

/// One case: its lines in order.
pub struct Case(Vec<(&'static str, &'static str)>);

pub fn read(text: &'static str) -> Vec<Case> {
    let case = |block: &'static str| {
        let lines = block.lines().filter(|line| !line.starts_with('#'));
        Case(
            lines
                .map(|line| line.split_once(':').map(|(name, value)| (name, value.trim())).unwrap())
                .collect(),
        )
    };
    text.split("\n\n").map(case).filter(|case| !case.0.is_empty()).collect()
}

impl Case {
    pub fn all(&self, name: &str) -> impl Iterator<Item = &'static str> {
        self.0.iter().filter(move |line| line.0 == name).map(|line| line.1)
    }

    pub fn one(&self, name: &str) -> &'static str {
        self.all(name).next().unwrap_or_else(|| panic!("{name} is missing in {:?}", self.0[0]))
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        hex(self.one(name))
    }
}

pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().map(|digit| u8::try_from(digit.to_digit(16).unwrap()).unwrap()).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
