//! An incoming HTTP request as ASGI and WSGI have it, to the attributes of its span, with nothing of Python's in between.
//!
//! Only what is plain (see `otelagent_core::http`) and of the types that the specifications name; the rest is None,
//! and for the description in Python.

use otelagent_core::attributes::{AttributeLimits, Attributes, cut_str};
use otelagent_core::http;
use otelagent_core::wire::AnyValue;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyInt, PyList, PyString, PyTuple};

/// Where an environ or a scope has its headers, for `call::Headers`.
pub enum Headers<'py> {
    Scope(Bound<'py, PyAny>),
    Environ,
}

/// The pieces of a request that its span records; texts are str or bytes.
pub struct Request<'py> {
    pub headers: Headers<'py>,
    scheme: Bound<'py, PyString>,
    query: Option<Bound<'py, PyAny>>,
    host: Bound<'py, PyAny>,
    client: Option<(Bound<'py, PyString>, u16)>,
    user_agent: Option<Bound<'py, PyAny>>,
    version: Option<Bound<'py, PyString>>,
}

fn bytes<'a>(text: &'a Bound<'_, PyAny>) -> Option<&'a [u8]> {
    match text.cast_exact::<PyBytes>() {
        Ok(bytes) => Some(bytes.as_bytes()),
        Err(_) => text.cast_exact::<PyString>().ok()?.to_str().ok().map(str::as_bytes),
    }
}

/// A string in a mapping; outer None for anything else.
fn string<'py>(mapping: &Bound<'py, PyDict>, key: &Bound<'py, PyString>) -> Option<Option<Bound<'py, PyString>>> {
    match mapping.get_item(key).ok()? {
        Some(value) if value.is_none() => Some(None),
        Some(value) => Some(Some(value.cast_into_exact::<PyString>().ok()?)),
        None => Some(None),
    }
}

impl<'py> Request<'py> {
    /// :param layout: `asgi` for a scope, `wsgi` for an environ.
    pub fn read(layout: &Bound<'py, PyString>, carrier: &Bound<'py, PyAny>) -> Option<Self> {
        let carrier = carrier.cast_exact::<PyDict>().ok()?;
        match layout.to_str().ok()? {
            "asgi" => Self::of_scope(carrier),
            "wsgi" => Self::of_environ(carrier),
            _ => None,
        }
    }

    fn of_scope(scope: &Bound<'py, PyDict>) -> Option<Self> {
        let py = scope.py();
        let scheme = match string(scope, intern!(py, "scheme"))? {
            Some(scheme) => match scheme.to_str().ok()? {
                "" | "ws" => intern!(py, "http").clone(),
                "wss" => intern!(py, "https").clone(),
                _ => scheme,
            },
            None => intern!(py, "http").clone(),
        };
        let client = match scope.get_item(intern!(py, "client")).ok()? {
            Some(client) if !client.is_none() => {
                let (host, port) = match client.cast_exact::<PyTuple>() {
                    Ok(pair) if pair.len() == 2 => (pair.get_item(0).ok()?, pair.get_item(1).ok()?),
                    Ok(_) => return None,
                    Err(_) => match client.cast_exact::<PyList>() {
                        Ok(pair) if pair.len() == 2 => (pair.get_item(0).ok()?, pair.get_item(1).ok()?),
                        _ => return None,
                    },
                };
                Some((host.cast_into_exact::<PyString>().ok()?, port.cast_exact::<PyInt>().ok()?.extract().ok()?))
            }
            _ => None,
        };
        let headers = scope.get_item(intern!(py, "headers")).ok()??;
        let (mut host, mut user_agent) = (None, None);
        for pair in headers.cast_exact::<PyList>().ok()? {
            let pair = pair.cast_exact::<PyTuple>().ok()?;
            if pair.len() != 2 {
                return None;
            }
            let name = pair.get_borrowed_item(0).ok()?;
            match name.cast_exact::<PyBytes>().ok()?.as_bytes() {
                b"host" => host = Some(pair.get_item(1).ok()?),
                b"user-agent" => user_agent = Some(pair.get_item(1).ok()?),
                _ => {}
            }
        }
        Some(Self {
            headers: Headers::Scope(headers),
            scheme,
            query: scope.get_item(intern!(py, "query_string")).ok()?,
            host: host?,
            client,
            user_agent,
            version: string(scope, intern!(py, "http_version"))?,
        })
    }

    fn of_environ(environ: &Bound<'py, PyDict>) -> Option<Self> {
        let py = environ.py();
        let scheme =
            string(environ, intern!(py, "wsgi.url_scheme"))?.filter(|scheme| !scheme.is_empty().unwrap_or(true));
        let client = match string(environ, intern!(py, "REMOTE_ADDR"))?.filter(|peer| !peer.is_empty().unwrap_or(true))
        {
            None => None,
            Some(peer) => Some((
                peer,
                match environ.get_item(intern!(py, "REMOTE_PORT")).ok()? {
                    None => 0,
                    Some(port) => match port.cast_exact::<PyString>() {
                        Ok(digits) => {
                            let digits = digits.to_str().ok().filter(|digits| !digits.starts_with('+'))?;
                            digits.parse().ok()?
                        }
                        Err(_) => port.cast_exact::<PyInt>().ok()?.extract().ok()?,
                    },
                },
            )),
        };
        let version = match string(environ, intern!(py, "SERVER_PROTOCOL"))? {
            None => None,
            Some(protocol) => Some(match protocol.to_str().ok()? {
                "HTTP/1.1" => intern!(py, "1.1").clone(),
                "HTTP/1.0" => intern!(py, "1.0").clone(),
                _ => return None,
            }),
        };
        let text = |key| Some(string(environ, key)?.map(Bound::into_any));
        Some(Self {
            headers: Headers::Environ,
            scheme: scheme.unwrap_or_else(|| intern!(py, "http").clone()),
            query: text(intern!(py, "QUERY_STRING"))?,
            host: text(intern!(py, "HTTP_HOST"))??,
            client,
            user_agent: text(intern!(py, "HTTP_USER_AGENT"))?,
            version,
        })
    }

    /// The attributes that `otelagent.semconv.http.ServerRequest` gives, if the request is plain. Calls `take` with them.
    ///
    /// :param method: a known one.
    pub fn attributes<R>(
        &self,
        method: &Bound<'_, PyString>,
        path: &Bound<'_, PyString>,
        take: impl FnOnce(&dyn Fn(&mut Attributes, &AttributeLimits)) -> R,
    ) -> Option<R> {
        let method = method.to_str().ok().filter(|method| http::is_known_method(method))?;
        let (path, scheme) = (path.to_str().ok()?, self.scheme.to_str().ok()?);
        let query = match &self.query {
            Some(query) if !query.is_none() => http::plain_query(bytes(query)?)?,
            _ => "",
        };
        let (host, port) = http::plain_host(bytes(&self.host)?)?;
        let port = port.or_else(|| http::default_port(scheme));
        let client = match &self.client {
            Some((address, port)) => Some((address.to_str().ok()?, *port)),
            None => None,
        };
        let user_agent = match &self.user_agent {
            Some(agent) => Some(http::plain(bytes(agent)?)?),
            None => None,
        };
        let version = match &self.version {
            Some(version) => Some(version.to_str().ok()?),
            None => None,
        };
        Some(take(&|attributes, limits| {
            // In the order of the description in Python, for a limit on their number counts in it.
            let mut set = |key, value: AnyValue<'_>| attributes.set(limits, key, &value);
            let text = |value| AnyValue::Str(cut_str(value, limits));
            let number = |value: u16| AnyValue::Int(i64::from(value));
            set("http.request.method", text(method));
            set("url.path", text(path));
            set("url.scheme", text(scheme));
            if !query.is_empty() {
                set("url.query", text(query));
            }
            set("server.address", text(host));
            if let Some(port) = port {
                set("server.port", number(port));
            }
            if let Some((address, port)) = client {
                set("client.address", text(address));
                set("network.peer.address", text(address));
                if port != 0 {
                    set("network.peer.port", number(port));
                }
            }
            if let Some(agent) = user_agent {
                set("user_agent.original", text(agent));
            }
            if let Some(version) = version {
                set("network.protocol.version", text(version));
            }
        }))
    }
}
