//! Inspects verbatim texts in the background, without delaying pushes and scrapes.
//!
//! Verbatim text is exposed unchanged.
//! [`Store::inspect_some`](crate::store::Store::inspect_some), called in the
//! background, checks later whether a reader would reject it, and whether another
//! producer exposes the same series. The section keeps the
//! [findings](crate::store::Findings).
//!
//! The inspection also makes families of the texts, for readers of OpenMetrics and
//! protobuf. These are kept from when such a reader first asks
//! ([`Store::families_snapshot`](crate::store::Store::families_snapshot)) until none
//! has asked for a while. Each text is read once, however many readers ask.
//!
//! A push only notes that its section waits. The lock of the inspection is held while
//! texts are read. Neither pushes nor scrapes of plain text take it.
//!
//! | Module | What it does |
//! | --- | --- |
//! | [`inspection`] | the state of the inspection; rules, reports, sums |
//! | [`run`] | inspects waiting texts; makes the merged output |
//! | [`read`] | reads one text, and finds what is wrong with it |
//! | [`merged_output`] | merges families of verbatim texts into the other families |
//! | [`texts`] | texts and findings in the section table |

pub mod inspection;
mod merged_output;
mod read;
mod run;
#[cfg(test)]
mod tests;
mod texts;
