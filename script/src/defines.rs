//! Names that a script or its caller defines. Above: `parser`, `packets`, `expr`.

/// Names that stand for something else: packetdrill's `-D NAME=value` and `--define=NAME=value`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Defines(Vec<(String, String)>);

impl Defines {
    /// From now on `name` stands for `value`.
    pub fn add(&mut self, name: &str, value: &str) {
        self.0.push((name.to_owned(), value.to_owned()));
    }

    /// What `name` stands for, as written: a number, a word, or a text in quotes or backticks.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// `word`, or the word it stands for.
    pub fn word(&self, word: &str) -> String {
        self.get(word).unwrap_or(word).to_owned()
    }
}
