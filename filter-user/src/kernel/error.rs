//! What can go wrong in this room, by kind: the exit status of a command follows from the kind, the words are for
//! people.

use std::{error::Error as StdError, fmt, io, path::PathBuf};

use crate::{model::Engine, table::TooLarge};

/// A [`Result`](std::result::Result) of this room.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Something went wrong: what, and while what was done. Its text is whole, causes included.
#[derive(Debug)]
pub struct Error {
    /// The outermost first.
    doing: Vec<String>,
    kind: ErrorKind,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no such interface in this network namespace.
    #[error("there is no interface {name}; there are: {}", .others.join(", "))]
    NoInterface {
        /// The name that was asked for.
        name: String,
        /// Those that there are.
        others: Vec<String>,
    },
    /// Nothing of nicgate's is on the interface.
    #[error("nicgate is not attached to {0}")]
    NotAttached(String),
    /// The filter was there, and something else took it off.
    #[error("the filter was taken off by something else: restart nicgate to attach it again")]
    TakenOff,
    /// The interface runs another program.
    #[error(
        "another XDP program runs on {interface}: {program}. An interface takes one: remove it (`ip link set dev \
         {interface} xdp off`, or stop what attached it), then try again"
    )]
    Taken {
        /// The interface.
        interface: String,
        /// The program's name and id.
        program: String,
    },
    /// Another controller owns the filter.
    #[error(
        "another nicgate controls this interface ({} is locked): use it (`nicgate reload`), or stop it first; what it \
         enforces stays enforced when it stops",
        .0.display()
    )]
    Locked(PathBuf),
    /// A privilege is missing. Says which, and how to get it.
    #[error("{0}")]
    Permission(String),
    /// The kernel's maps cannot hold what they were to hold.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// The kernel has no memory: ENOMEM.
    #[error("the kernel has no memory for {0}")]
    NoMemory(&'static str),
    /// A map of the kernel's is full: ENOSPC or E2BIG.
    #[error("the kernel's {0} is full")]
    Full(&'static str),
    /// The driver, the device or the kernel cannot do it.
    #[error("{0}")]
    Unsupported(String),
    /// The filter looks addresses up with one engine, and the table is laid out for another.
    #[error(
        "{interface} runs with the engine {runs}, and an engine changes only when nicgate starts: restart it to change to \
         {wanted}; what is enforced stays enforced meanwhile"
    )]
    OtherEngine {
        /// The interface.
        interface: String,
        /// The filter's.
        runs: Engine,
        /// The table's.
        wanted: Engine,
    },
    /// What is pinned was made by another version of nicgate, or another build.
    #[error("{0}")]
    OtherVersion(String),
    /// The kernel shows something that nicgate did not put there, or not what it promises.
    #[error("{0}")]
    Unexpected(String),
    /// A system call failed for another reason.
    #[error("{what}")]
    System {
        /// What failed, in the kernel's words.
        what: String,
        /// `errno`, where there is one.
        errno: Option<i32>,
    },
}

impl Error {
    /// What went wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// Whether the configuration or the request has to change; else the system refused.
    pub fn is_request(&self) -> bool {
        matches!(self.kind, ErrorKind::TooLarge(_) | ErrorKind::NotAttached(_))
    }

    /// The same error, while something more was done.
    pub(crate) fn doing(mut self, doing: impl fmt::Display) -> Self {
        self.doing.insert(0, doing.to_string());
        self
    }

    pub(super) fn unsupported(text: impl Into<String>) -> Self {
        ErrorKind::Unsupported(text.into()).into()
    }

    pub(super) fn other_version(text: impl Into<String>) -> Self {
        ErrorKind::OtherVersion(text.into()).into()
    }

    pub(super) fn unexpected(text: impl Into<String>) -> Self {
        ErrorKind::Unexpected(text.into()).into()
    }

    /// By the system's reason, wherever in the chain of causes it is; the text is that of the whole chain.
    pub(super) fn of(error: &(dyn StdError + 'static)) -> Self {
        let what = chain(error);
        match errno(error) {
            Some(libc::EPERM) => ErrorKind::Permission(format!(
                "{what} (run as root, or with the capabilities CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN)"
            )),
            errno => ErrorKind::System { what, errno },
        }
        .into()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for doing in &self.doing {
            write!(f, "{doing}: ")?;
        }
        self.kind.fmt(f)
    }
}

impl StdError for Error {}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self { doing: Vec::new(), kind }
    }
}

impl From<TooLarge> for Error {
    fn from(error: TooLarge) -> Self {
        ErrorKind::TooLarge(error).into()
    }
}

macro_rules! of_causes {
    ($($cause:ty),*) => {
        $(
            impl From<$cause> for Error {
                fn from(error: $cause) -> Self {
                    Self::of(&error)
                }
            }
        )*
    };
}
of_causes!(
    io::Error,
    aya::EbpfError,
    aya::maps::MapError,
    aya::pin::PinError,
    aya::programs::ProgramError,
    aya::programs::links::LinkError,
    aya_log::Error
);

/// An error and its causes, each said once.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// The system's reason, if one of an error's causes has one.
pub(super) fn errno(error: &(dyn StdError + 'static)) -> Option<i32> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(io);
        }
        cause = error.source();
    }
    None
}

/// Says while what something went wrong.
pub(super) trait Context<T> {
    fn context(self, doing: impl fmt::Display) -> Result<T>;
    fn with_context<D: fmt::Display>(self, doing: impl FnOnce() -> D) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for Result<T, E> {
    fn context(self, doing: impl fmt::Display) -> Result<T> {
        self.with_context(|| doing)
    }

    fn with_context<D: fmt::Display>(self, doing: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|error| error.into().doing(doing()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(code: i32) -> Result<()> {
        Err(io::Error::from_raw_os_error(code)).context("could not do it").with_context(|| "eth0")
    }

    #[test]
    fn the_kind_follows_from_the_system_s_reason_and_the_text_has_it_all() {
        let error = failed(libc::EPERM).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Permission(_)), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with("eth0: could not do it: Operation not permitted"), "{text}");
        assert!(text.ends_with("CAP_NET_ADMIN and CAP_SYS_ADMIN)"), "{text}");
        let error = failed(libc::EINVAL).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::System { errno: Some(libc::EINVAL), .. }), "{error:?}");
        assert_eq!(error.to_string(), "eth0: could not do it: Invalid argument (os error 22)");
    }

    #[test]
    fn only_what_the_operator_asked_for_is_a_wrong_request() {
        let error: Error = TooLarge::Rules(9_000).into();
        assert!(error.is_request());
        assert!(Error::from(ErrorKind::NotAttached("eth0".into())).is_request());
        for code in [libc::EPERM, libc::ENOMEM, libc::EINVAL] {
            assert!(!failed(code).unwrap_err().is_request());
        }
        assert!(!Error::unsupported("no").is_request());
    }
}
