//! What the operator wrote, and what is wrong with it.
