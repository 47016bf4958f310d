//! Real clients and real servers around the real program.
