//! What a policy says of a request, and what of that the network card may decide, beside the oracle.

mod backend_connections;
mod backend_truth_table;
mod explain_agrees;
mod judgement_order;
mod property_identity;
mod property_judge;
mod property_offload;
mod property_report;
mod property_text;
