//! Text as a terminal can be given it.

use std::borrow::Cow;

/// The text without characters that move a cursor or change a terminal's state, except for those in `kept`: each is
/// shown as U+FFFD. What stands in a configuration, in a list or in a request is somebody else's.
pub fn printable<'a>(text: &'a str, kept: &[char]) -> Cow<'a, str> {
    let obeyed = |c: char| c.is_control() && !kept.contains(&c);
    if !text.contains(obeyed) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if obeyed(c) { char::REPLACEMENT_CHARACTER } else { c }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_terminal_obeys_is_replaced() {
        assert_eq!(printable("tv\u{e9}\n", &['\n']), "tv\u{e9}\n");
        assert_eq!(
            printable("a\x1b[2J\u{9b}1m\x7f\r\n\0", &['\n']),
            "a\u{fffd}[2J\u{fffd}1m\u{fffd}\u{fffd}\n\u{fffd}"
        );
        assert_eq!(printable("a\nb", &[]), "a\u{fffd}b");
    }
}
