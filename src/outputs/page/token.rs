//! Protection of actions against other sites: a token in each form, for the browser that loaded
//! the page.
//!
//! With a page, a browser gets a random cookie that other sites can neither read nor make it send
//! (`SameSite=Strict`). The token is a keyed hash of the cookie. The key is random and belongs
//! to the process, so pages from before a restart are no longer valid.

use hyper::header::{COOKIE, HeaderMap, HeaderValue, SET_COOKIE};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::shell::Shell;
use crate::http::reply::Reply;

const COOKIE_NAME: &str = "exporter_proxy_page";

/// The random bytes of a cookie.
const COOKIE_BYTES: usize = 16;

/// The key of tokens.
#[derive(Debug)]
pub struct TokenKey(hmac::Key);

impl TokenKey {
    /// A random key.
    ///
    /// # Panics
    ///
    /// If the system has no random numbers.
    pub fn random() -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        TokenKey(key.expect("the system has random numbers"))
    }

    /// Whether `token` belongs to the browser that sends these headers.
    pub fn accepts(&self, headers: &HeaderMap, token: &str) -> bool {
        let Some(cookie) = cookie_of(headers) else {
            return false;
        };
        let Some(token) = from_hex(token) else {
            return false;
        };
        hmac::verify(&self.0, cookie.as_bytes(), &token).is_ok()
    }

    fn token(&self, cookie: &str) -> String {
        hex(hmac::sign(&self.0, cookie.as_bytes()).as_ref())
    }
}

/// The token of a browser, and its cookie if it is new.
#[derive(Debug)]
pub struct Token {
    /// The value for forms.
    pub value: String,
    cookie: String,
    is_new: bool,
}

impl Token {
    /// The token of the browser that sends these headers. A browser without a cookie gets one.
    pub fn of(key: &TokenKey, headers: &HeaderMap) -> Self {
        let known = cookie_of(headers);
        let cookie = known.clone().unwrap_or_else(|| {
            let mut random = [0; COOKIE_BYTES];
            let filled = SystemRandom::new().fill(&mut random);
            filled.expect("the system has random numbers");
            hex(&random)
        });
        Token {
            value: key.token(&cookie),
            cookie,
            is_new: known.is_none(),
        }
    }

    /// Adds the cookie to a reply, if it is new.
    pub fn add_to(&self, shell: &Shell, mut reply: Reply) -> Reply {
        if self.is_new {
            let path = shell.cookie_path();
            let secure = if shell.is_secure() { "; Secure" } else { "" };
            let cookie = &self.cookie;
            let text =
                format!("{COOKIE_NAME}={cookie}; Path={path}; HttpOnly; SameSite=Strict{secure}");
            // A settled prefix is a valid header.
            if let Ok(value) = HeaderValue::from_str(&text) {
                reply.headers_mut().insert(SET_COOKIE, value);
            }
        }
        reply
    }
}

/// The cookie in a request, if the proxy made it.
fn cookie_of(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(COOKIE).iter();
    let mut cookies = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'));
    let found = cookies.find_map(|cookie| {
        let (name, value) = cookie.trim().split_once('=')?;
        (name == COOKIE_NAME).then_some(value)
    })?;
    let bytes = from_hex(found)?;
    (bytes.len() == COOKIE_BYTES).then(|| found.to_owned())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    /// The length of the longest valid text: a hash.
    const MAX: usize = 64;
    if text.len() > MAX || text.len() % 2 == 1 || !text.bytes().all(|it| it.is_ascii_hexdigit()) {
        return None;
    }
    let digits = (0..text.len()).step_by(2);
    digits
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::reply;

    fn with_cookie(cookie: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, cookie.parse().unwrap());
        headers
    }

    #[test]
    fn a_token_is_for_one_browser_and_one_process() {
        let (key, other) = (TokenKey::random(), TokenKey::random());
        let token = Token::of(&key, &HeaderMap::new());
        let headers = with_cookie(&format!("a=b; {COOKIE_NAME}={}; c=d", token.cookie));
        assert!(key.accepts(&headers, &token.value));
        assert!(!other.accepts(&headers, &token.value));
        let again = Token::of(&key, &headers);
        assert!(!again.is_new && again.value == token.value);
        let stranger = Token::of(&key, &HeaderMap::new());
        assert_ne!(stranger.cookie, token.cookie);
        assert!(!key.accepts(&headers, &stranger.value));
        for wrong in [
            "",
            "0",
            "zz",
            &"0".repeat(64),
            &token.value[2..],
            &"a".repeat(1000),
        ] {
            assert!(!key.accepts(&headers, wrong), "{wrong}");
        }
        for cookie in ["", "exporter_proxy_page=", "exporter_proxy_page=00", "x"] {
            assert!(!key.accepts(&with_cookie(cookie), &token.value), "{cookie}");
        }
        assert!(!key.accepts(&HeaderMap::new(), &token.value));
    }

    #[test]
    fn cookies_stay_with_the_site() {
        let token = Token::of(&TokenKey::random(), &HeaderMap::new());
        let reply = |shell: &Shell| {
            let reply = token.add_to(shell, reply::text(hyper::StatusCode::OK, ""));
            reply.headers()[SET_COOKIE].to_str().unwrap().to_owned()
        };
        let plain = reply(&Shell::new("", false));
        assert!(
            plain.ends_with("; Path=/; HttpOnly; SameSite=Strict"),
            "{plain}"
        );
        let secure = reply(&Shell::new("/proxy", true));
        assert!(secure.ends_with("; Path=/proxy/; HttpOnly; SameSite=Strict; Secure"));
    }
}
