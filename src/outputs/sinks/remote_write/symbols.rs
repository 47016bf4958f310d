//! Strings of protocol 2.0: each is held once, and each request has a table of the strings that it
//! uses.

use std::collections::HashMap;
use std::sync::Arc;

use crate::exposition::protobuf::put_bytes;

/// The number of a string. It does not change while the string is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Symbol(u32);

/// All strings that series use. A string without uses is dropped.
#[derive(Debug)]
pub struct Symbols {
    by_text: HashMap<Arc<str>, u32>,
    held: Vec<Held>,
    /// Free places of dropped strings.
    free: Vec<u32>,
    /// The number of the current request, to know which strings it already has.
    request: u32,
}

#[derive(Debug)]
struct Held {
    text: Arc<str>,
    uses: u32,
    /// The last request that has the string, and the string's number in its table.
    request: u32,
    reference: u32,
}

/// The table of strings of one request. It begins with the empty string.
#[derive(Debug, Default)]
pub struct SymbolTable {
    encoded: Vec<u8>,
    count: u32,
}

/// The field of a request that has its strings.
const SYMBOLS: u32 = 4;

impl Default for Symbols {
    fn default() -> Self {
        let mut symbols = Symbols {
            by_text: HashMap::new(),
            held: Vec::new(),
            free: Vec::new(),
            request: 0,
        };
        // The empty string is never dropped.
        symbols.acquire("");
        symbols
    }
}

impl Symbols {
    /// The symbol of a text; adds a use.
    pub fn acquire(&mut self, text: &str) -> Symbol {
        if let Some(at) = self.by_text.get(text) {
            self.held[*at as usize].uses += 1;
            return Symbol(*at);
        }
        let text: Arc<str> = Arc::from(text);
        let held = Held {
            text: Arc::clone(&text),
            uses: 1,
            request: 0,
            reference: 0,
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.held[at as usize] = held;
                at
            }
            None => {
                self.held.push(held);
                (self.held.len() - 1) as u32
            }
        };
        self.by_text.insert(text, at);
        Symbol(at)
    }

    /// Adds a use of a symbol.
    pub fn acquire_again(&mut self, symbol: Symbol) {
        self.held[symbol.0 as usize].uses += 1;
    }

    /// Ends one use of a symbol.
    pub fn release(&mut self, symbol: Symbol) {
        let held = &mut self.held[symbol.0 as usize];
        held.uses -= 1;
        if held.uses == 0 {
            self.by_text.remove(&held.text);
            held.text = Arc::default();
            self.free.push(symbol.0);
        }
    }

    /// The text of a symbol.
    pub fn text(&self, symbol: Symbol) -> &str {
        &self.held[symbol.0 as usize].text
    }

    /// The number of strings that are held.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.by_text.len()
    }

    /// Begins a request.
    pub fn begin(&mut self, table: &mut SymbolTable) {
        self.request = self.request.wrapping_add(1);
        if self.request == 0 {
            // The numbers start again, so no old ones may be left.
            self.request = 1;
            for held in &mut self.held {
                held.request = 0;
            }
        }
        table.encoded.clear();
        table.count = 0;
        self.reference(Symbol(0), table);
    }

    /// The number of a symbol in the request.
    #[inline]
    pub fn reference(&mut self, symbol: Symbol, table: &mut SymbolTable) -> u32 {
        let held = &mut self.held[symbol.0 as usize];
        if held.request != self.request {
            held.request = self.request;
            held.reference = table.add(&held.text);
        }
        held.reference
    }
}

impl SymbolTable {
    /// Adds a string, which must not be in the table, or is rare.
    pub fn add(&mut self, text: &str) -> u32 {
        put_bytes(&mut self.encoded, SYMBOLS, text.as_bytes());
        self.count += 1;
        self.count - 1
    }

    /// The encoded table.
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_is_held_once_and_as_long_as_it_is_used() {
        let mut symbols = Symbols::default();
        let (a, b) = (symbols.acquire("a"), symbols.acquire("b"));
        assert_eq!(symbols.acquire("a"), a);
        symbols.release(a);
        assert_eq!((symbols.text(a), symbols.len()), ("a", 3));
        symbols.release(a);
        assert_eq!(symbols.len(), 2);
        let c = symbols.acquire("c");
        assert_eq!((c, symbols.text(c), symbols.text(b)), (a, "c", "b"));
    }

    #[test]
    fn a_request_has_each_string_once_after_the_empty_one() {
        let mut symbols = Symbols::default();
        let mut table = SymbolTable::default();
        let (a, b) = (symbols.acquire("a"), symbols.acquire("bc"));
        for _ in 0..2 {
            symbols.begin(&mut table);
            let references = [b, a, b, Symbol(0)].map(|it| symbols.reference(it, &mut table));
            assert_eq!(references, [1, 2, 1, 0]);
            assert_eq!(table.encoded(), b"\x22\0\x22\x02bc\x22\x01a");
        }
        symbols.request = u32::MAX;
        symbols.begin(&mut table);
        assert_eq!(symbols.reference(a, &mut table), 1);
    }
}
