//! The texts of a configuration after it has been read.

use super::{
    diagnostic::{Diagnostic, Refused, Report, Severity},
    source::Sources,
};
use crate::model::Origin;

/// The texts of a configuration that has been read, and what there is to say of them so far.
#[derive(Debug)]
pub struct Texts(Sources);

impl Texts {
    pub(super) fn new(sources: Sources) -> Self {
        Self(sources)
    }

    /// Says something of what stands at a place.
    pub fn say(
        &mut self,
        severity: Severity,
        place: &Origin,
        code: &'static str,
        message: String,
    ) -> &mut Diagnostic {
        match self.0.span_at(place) {
            Some(span) => self.0.say(severity, span, code, message),
            None => self.0.say_file(severity, place.file.clone(), code, message),
        }
    }

    /// Takes note of a part that was refused alone.
    pub fn refused(&mut self, part: Refused) {
        self.0.refused(part);
    }

    /// All that there is to say.
    pub fn into_report(self) -> Report {
        self.0.into_report()
    }
}
