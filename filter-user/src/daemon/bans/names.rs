use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use serde::Serialize;

use crate::bans::{Ban, Book};

type ById = HashMap<u32, Arc<Ban>>;

/// Finds a ban by its number, for `monitor`.
#[derive(Clone, Default)]
pub(in crate::daemon) struct Names(Arc<RwLock<Arc<ById>>>);

/// A ban as `monitor` names it; everything is `None` when it has ended meanwhile.
#[derive(Clone, Debug, Default, Serialize)]
pub(in crate::daemon) struct Named {
    prefix: Option<String>,
    service: Option<String>,
    reason: Option<Arc<str>>,
}

impl Names {
    pub(super) fn replace(&self, book: &Book) {
        let by_id = Arc::new(book.iter().map(|ban| (ban.id, ban.clone())).collect());
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = by_id;
    }

    pub(in crate::daemon) fn find(&self, id: u32) -> Named {
        let bans = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        bans.get(&id).map_or_else(Named::default, |ban| Named {
            prefix: Some(ban.net.to_string()),
            service: ban.scope.service(),
            reason: ban.reason.clone(),
        })
    }
}
