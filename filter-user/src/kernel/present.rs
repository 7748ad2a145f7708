//! What is on an interface before anything is done.

use aya::programs::{ProgramInfo, links::FdLink, loaded_programs};

use super::{
    device::{Device, Mode},
    error::Result,
    link,
    pins::Pins,
};

/// What of ours is on an interface.
pub(super) enum Present {
    /// Neither a program nor a living link.
    Nothing,
    /// Ours, by its link.
    Link(FdLink, Mode),
    /// Ours, without a link.
    Netlink(Box<ProgramInfo>, Mode),
}

impl Present {
    /// The program; `None` if there is none.
    pub(super) fn program_info(&self) -> Result<Option<ProgramInfo>> {
        let id = match self {
            Self::Nothing => return Ok(None),
            Self::Link(link, _) => link.info()?.program_id(),
            Self::Netlink(program, _) => program.id(),
        };
        Ok(loaded_programs().flatten().find(|program| program.id() == id))
    }

    /// An error if there is another program than ours.
    pub(super) fn find(device: &Device, pins: &Pins) -> Result<Self> {
        let attached = device.attached()?;
        let link = link::pinned(&pins.link())?;
        let Some((program, mode)) = attached else { return Ok(Self::Nothing) };
        if let Some((link, linked)) = link
            && linked == program
        {
            return Ok(Self::Link(link, mode));
        }
        if let Ok(pinned) = ProgramInfo::from_pin(pins.program())
            && pinned.id() == program
        {
            return Ok(Self::Netlink(Box::new(pinned), mode));
        }
        Err(device.taken(program))
    }
}
