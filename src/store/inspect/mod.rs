//! Inspection of verbatim texts.

pub mod inspection;
mod merged_output;
mod read;
mod run;
#[cfg(test)]
mod tests;
mod texts;
