//! Where the admin listener is, as the file and `--admin` spell it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::addresses::ListenAddr;
use super::error::did_you_mean;
use super::spelled::spelled;
use crate::status::endpoint::Endpoint;

/// An address such as `127.0.0.1:9181`, or `unix:` and the path of a socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AdminAddr(pub Endpoint);

impl FromStr for AdminAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return socket(text, path).map(|path| Self(Endpoint::Unix(path)));
        }
        if text.starts_with('/') {
            let message = format!("`{text}` is not an address");
            return Err(did_you_mean(message, format_args!("unix:{text}")));
        }
        text.parse::<ListenAddr>().map(|address| Self(Endpoint::Tcp(address.get())))
    }
}

fn socket(text: &str, path: &str) -> Result<PathBuf, String> {
    if let Some(rest) = path.strip_prefix("//") {
        let path = format!("/{}", rest.trim_start_matches('/'));
        let message = format!("`{text}` is not the path of a socket");
        return Err(did_you_mean(message, format_args!("unix:{path}")));
    }
    if !path.starts_with('/') || path.ends_with('/') || path.chars().any(char::is_control) {
        return Err(format!("`{text}` is not a path such as `unix:/run/wsgate/admin.sock`"));
    }
    if path.len() > PATH_MAX {
        return Err(format!("the path of a socket has at most {PATH_MAX} bytes"));
    }
    Ok(path.into())
}

impl fmt::Display for AdminAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

spelled!(AdminAddr, "an address such as `127.0.0.1:9181`, or `unix:/run/wsgate/admin.sock`", {
    "type": "string",
    "description": "An IP address and a port, or `unix:` and an absolute path.",
    "pattern": "^(([0-9.]+|\\[[0-9A-Fa-f:.%]+\\])?:[0-9]{1,5}|unix:/.*[^/])$",
    "examples": ["127.0.0.1:9181", "unix:/run/wsgate/admin.sock"],
});

/// `sun_path` in unix(7), less the byte that ends it.
const PATH_MAX: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_or_a_socket() {
        for text in ["127.0.0.1:9181", "[::1]:0", "unix:/run/wsgate/admin.sock", "unix:/a b"] {
            assert_eq!(text.parse::<AdminAddr>().unwrap().to_string(), text);
        }
        let long = format!("unix:/{}", "x".repeat(PATH_MAX));
        for (text, end) in [
            ("/run/admin.sock", "did you mean `unix:/run/admin.sock`?"),
            ("unix:///run/admin.sock", "did you mean `unix:/run/admin.sock`?"),
            ("unix:admin.sock", "such as `unix:/run/wsgate/admin.sock`"),
            ("unix:/run/", "such as `unix:/run/wsgate/admin.sock`"),
            ("unix:/a\nb", "such as `unix:/run/wsgate/admin.sock`"),
            ("localhost:9181", "did you mean `127.0.0.1:9181`?"),
            (&long, "at most 107 bytes"),
        ] {
            let error = text.parse::<AdminAddr>().unwrap_err();
            assert!(error.ends_with(end), "{text}: {error}");
        }
    }
}
