//! The page's three files, and the fields that go with them.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use http::{HeaderValue, Response};
use http_body_util::Full;

/// The file at `path`, if it is one of the page's.
pub(super) fn file(path: &str) -> Option<Response<Full<Bytes>>> {
    let (kind, text) = match path {
        "/" => ("text/html; charset=utf-8", include_str!("page/index.html")),
        "/app.js" => ("text/javascript; charset=utf-8", include_str!("page/app.js")),
        "/style.css" => ("text/css; charset=utf-8", include_str!("page/style.css")),
        _ => return None,
    };
    let mut response = Response::new(Full::from(text));
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    fields.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    fields.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Some(response)
}

/// Nothing inline, nothing from elsewhere, in nobody's frame.
pub(super) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
                                 connect-src 'self'; img-src data:; base-uri 'none'; \
                                 frame-ancestors 'none'; form-action 'none'";

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_keeps_its_own_policy() {
        let html = include_str!("page/index.html");
        for inline in ["<style", " style=", " onclick=", "javascript:", "http://", "https://"] {
            assert!(!html.contains(inline), "{inline}");
        }
        assert_eq!(html.matches("<script").count(), html.matches("<script src=\"/").count());
        assert!(!include_str!("page/app.js").contains("innerHTML"));
    }
}
