//! How text is read.
