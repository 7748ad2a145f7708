//! The configuration: text to syntax tree to model, and what to say when that fails. Pure: files come
//! through [`Files`].

mod model;

pub use model::{
    Access, Config, Files, Gate, Interface, InterfaceMode, Listener, OpenReason, Proto, Service, ServiceKey,
    ServiceKind, Stream,
};
