//! One test for each message, so that each is seen as an operator sees it.
