//! An incoming HTTP request in plain words: what of it may be recorded without a second look.
//!
//! The rules are those of `otelagent.semconv.http.ServerRequest`. What isn't plain (a credential's name in the query, an
//! address in brackets, anything beyond ASCII) is None here, and is for those rules themselves.

/// Names whose values in a query are credentials, as `otelagent.semconv.redaction` has them.
const SECRETS: [&str; 26] = [
    "awsaccesskeyid",
    "signature",
    "sig",
    "x-goog-signature",
    "x-amz-signature",
    "x-amz-security-token",
    "x-amz-credential",
    "access_token",
    "refresh_token",
    "id_token",
    "auth_token",
    "token",
    "code",
    "password",
    "passwd",
    "pwd",
    "secret",
    "client_secret",
    "api_key",
    "api-key",
    "apikey",
    "key",
    "session",
    "jwt",
    "auth",
    "authorization",
];

/// A method that is called by its own name.
pub fn is_known_method(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "CONNECT" | "OPTIONS" | "TRACE" | "PATCH" | "QUERY")
}

/// The port that a scheme has by default.
pub fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

/// A header or part of a URL, if it is ASCII.
pub fn plain(bytes: &[u8]) -> Option<&str> {
    if bytes.is_ascii() { str::from_utf8(bytes).ok() } else { None }
}

/// A query string that holds no credential.
pub fn plain_query(query: &[u8]) -> Option<&str> {
    let separators = |byte: &u8| matches!(byte, b'?' | b'&' | b';' | b'#');
    for pair in query.split(separators) {
        // Of `a=b=c` both may be names to a reader of something else.
        let mut names = pair.split(|byte| *byte == b'=');
        names.next_back();
        if names.any(|name| SECRETS.iter().any(|secret| secret.as_bytes().eq_ignore_ascii_case(name))) {
            return None;
        }
    }
    plain(query)
}

/// A `Host` header's name and port, of a name or an IPv4 address.
pub fn plain_host(host: &[u8]) -> Option<(&str, Option<u16>)> {
    let (name, port) = match host.iter().position(|byte| *byte == b':') {
        None => (host, None),
        Some(colon) => (&host[..colon], Some(&host[colon + 1..])),
    };
    let known = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    if name.is_empty() || name.len() > 255 || !name.iter().all(known) {
        return None;
    }
    let port = match port {
        None => None,
        Some(digits) if matches!(digits.len(), 1..=5) && digits.iter().all(u8::is_ascii_digit) => {
            Some(str::from_utf8(digits).ok()?.parse().ok()?)
        }
        Some(_) => return None,
    };
    Some((str::from_utf8(name).ok()?, port.filter(|port| *port != 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_with_a_credential_is_not_plain() {
        for query in ["q=1&page=2", "", "token", "tokens=1", "a=token", "%20=x"] {
            assert_eq!(plain_query(query.as_bytes()), Some(query));
        }
        for query in ["token=1", "q=1&TOKEN=2", "a;key=1", "#sig=a", "a=token=b", "x?pwd=1", "q=\u{fc}"] {
            assert_eq!(plain_query(query.as_bytes()), None, "{query}");
        }
    }

    #[test]
    fn a_plain_host_is_a_name_and_a_port() {
        assert_eq!(plain_host(b"shop"), Some(("shop", None)));
        assert_eq!(plain_host(b"127.0.0.1:8000"), Some(("127.0.0.1", Some(8000))));
        assert_eq!(plain_host(b"shop:0"), Some(("shop", None)));
        for host in
            [&b""[..], b":80", b"shop:", b"shop:x", b"shop:99999", b"[::1]:80", b"a@b", b"Shop", b"\xff", b"a:1:2"]
        {
            assert_eq!(plain_host(host), None, "{}", host.escape_ascii());
        }
    }
}
