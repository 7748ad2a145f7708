//! Finding a ban by its number.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use crate::bans::{Ban, BanTable};

/// Finds a ban by its number, for `monitor`.
#[derive(Clone, Default)]
pub struct BanNames(Arc<ArcSwap<HashMap<u32, Arc<Ban>>>>);

/// A ban as `monitor` names it; everything is `None` when it has ended meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedBan {
    /// The banned prefix.
    pub prefix: Option<String>,
    /// The service, such as `80/tcp`; `None` also for every one.
    pub service: Option<String>,
    /// Why, in the operator's words.
    pub reason: Option<Arc<str>>,
}

impl BanNames {
    pub(super) fn replace(&self, bans: &BanTable) {
        self.0.store(Arc::new(bans.iter().map(|ban| (ban.id, ban.clone())).collect()));
    }

    pub(in crate::watch) fn find(&self, id: u32) -> NamedBan {
        self.0.load().get(&id).map_or_else(NamedBan::default, |ban| NamedBan {
            prefix: Some(ban.net.to_string()),
            service: ban.scope.service(),
            reason: ban.reason.clone(),
        })
    }
}
