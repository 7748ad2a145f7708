//! What the parser has to know of words, and which word was probably meant.

/// What a block is, as far as its directives are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Context {
    /// A file.
    Top,
    /// `auth_backend`.
    Policy,
    /// `stream`, `template`, `vod` and the like.
    Stream,
    /// `source`.
    Source,
    /// `gate`.
    Gate,
    /// `backend`, in an `auth_backend`.
    Backend,
    /// `interface`.
    Interface,
    /// The lists of a rule with `file`.
    List,
    /// `real_ip`.
    RealIp,
    /// `upstream`, at the top of a file.
    Upstream,
    /// A block that is passed over, or none.
    Other,
}

/// What a word is to the parser.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// What the block of this directive has in it.
    pub(super) block: Context,
    /// Whether it stands at the top of a file only.
    pub(super) top_only: bool,
}

/// Looks a word up in a block's part of the table of directives. A function, so that the parser does not depend on
/// what directives mean.
pub(super) type LookUp = fn(Context, &str) -> Option<Known>;

/// The candidate that was probably meant.
pub(super) fn suggest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    // The distance is quadratic in the length; no directive is this long.
    if word.len() > 40 {
        return None;
    }
    let word = word.to_ascii_lowercase();
    candidates
        .iter()
        .map(|candidate| (strsim::osa_distance(&word, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(4).min(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The candidate that was probably meant, as advice.
pub(super) fn did_you_mean(word: &str, candidates: &[&str]) -> Option<String> {
    suggest(word, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
}
