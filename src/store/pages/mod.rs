//! The output as pages: ordered fragments of text, joined and compressed once.
//!
//! | Module | What it does |
//! | --- | --- |
//! | [`fragments`] | the texts of one page, and where they are in memory |
//! | [`page`] | one page: its fragments, and what was made of them |
//! | [`page_list`] | all pages in order; sets and removes fragments by key |
//! | [`splice`] | sets many fragments at once, with pages made beside the list |
//! | [`compressed`] | a page's text as deflate blocks with a CRC-32 |
//! | [`page_run`] | compressed pages that are kept in one piece |
//! | [`gzip`] | page runs as one gzip member |
//! | [`deflate`], [`crc`] | the compressor, and checksums that can be combined |
//! | [`buffer_pool`] | memory of old page texts, used for new ones |

pub mod buffer_pool;
pub mod compressed;
pub mod crc;
pub mod deflate;
pub mod fragments;
pub mod gzip;
pub mod page;
pub mod page_list;
pub mod page_run;
pub mod splice;
