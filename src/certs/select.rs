//! Which pair answers a client: by server name, then by the signatures it can verify.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::sign::SigningKey;

use super::load::Pair;

/// The pairs now served, indexed by name. The first pair is the default.
pub(super) struct Served {
    pairs: Vec<Arc<Pair>>,
    /// DNS name → pairs, in the order of the configuration.
    exact: HashMap<String, Vec<usize>>,
    /// What stands behind `*.` → pairs.
    wildcard: HashMap<String, Vec<usize>>,
    /// The first pair, and those that bear its name with another kind of key.
    default: Vec<usize>,
}

impl Served {
    pub(super) fn new(pairs: Vec<Arc<Pair>>) -> Self {
        let mut exact: HashMap<String, Vec<usize>> = HashMap::new();
        let mut wildcard: HashMap<String, Vec<usize>> = HashMap::new();
        for (n, pair) in pairs.iter().enumerate() {
            for name in &pair.summary.names {
                match name.strip_prefix("*.") {
                    Some(parent) => wildcard.entry(parent.to_owned()).or_default().push(n),
                    None => exact.entry(name.clone()).or_default().push(n),
                }
            }
        }
        let first = pairs.first().map(|pair| pair.summary.name());
        let default =
            (0..pairs.len()).filter(|n| Some(pairs[*n].summary.name()) == first).collect();
        Self { pairs, exact, wildcard, default }
    }

    pub(super) fn pairs(&self) -> &[Arc<Pair>] {
        &self.pairs
    }

    /// The pair for a client that asks for `sni` (lower case) and can verify `offered`, in its order
    /// of preference.
    ///
    /// An exact name goes before a wildcard of one label (RFC 6125 §6.4.3), that before the default.
    /// Where none of them suits `offered` the best name is given still, so that the handshake fails
    /// for what it lacks, a common signature scheme, and is counted as that.
    pub(super) fn choose(&self, sni: Option<&str>, offered: &[SignatureScheme]) -> Option<&Pair> {
        let exact = sni.and_then(|name| self.exact.get(name));
        let parent = sni.and_then(|name| name.split_once('.')).map(|(_, parent)| parent);
        let wildcard = parent.and_then(|parent| self.wildcard.get(parent));
        let tiers = || [exact, wildcard, Some(&self.default)].into_iter().flatten();
        tiers()
            .find_map(|tier| self.verifiable(tier, offered))
            .or_else(|| tiers().flatten().map(|n| &*self.pairs[*n]).next())
    }

    /// The pair of `tier` that the client likes best.
    fn verifiable(&self, tier: &[usize], offered: &[SignatureScheme]) -> Option<&Pair> {
        // TLS 1.3 has no use for PKCS #1 signatures in a handshake (RFC 8446 §4.2.3), and the
        // version is not known here: they count only when nothing newer fits.
        let (old, new): (Vec<_>, Vec<_>) = offered.iter().partition(|scheme| is_pkcs1(**scheme));
        new.into_iter().chain(old).find_map(|scheme| {
            let pairs = tier.iter().map(|n| &*self.pairs[*n]);
            pairs.into_iter().find(|pair| signs(&*pair.certified.key, scheme))
        })
    }
}

fn signs(key: &dyn SigningKey, scheme: SignatureScheme) -> bool {
    key.choose_scheme(&[scheme]).is_some()
}

fn is_pkcs1(scheme: SignatureScheme) -> bool {
    matches!(
        scheme,
        SignatureScheme::RSA_PKCS1_SHA1
            | SignatureScheme::RSA_PKCS1_SHA256
            | SignatureScheme::RSA_PKCS1_SHA384
            | SignatureScheme::RSA_PKCS1_SHA512
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certs::load::Content;
    use crate::certs::testing::{Dir, ecdsa, rsa};

    const ALL: &[SignatureScheme] =
        &[SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::RSA_PSS_SHA256];
    const RSA_ONLY: &[SignatureScheme] =
        &[SignatureScheme::RSA_PKCS1_SHA256, SignatureScheme::RSA_PSS_SHA256];

    fn served(made: &[(&str, (String, String))]) -> Served {
        let dir = Dir::new();
        let load = |(name, pair): &(&str, (String, String))| {
            let files = dir.write(name, pair);
            Arc::new(Content::read(&files).check().ok().unwrap())
        };
        Served::new(made.iter().map(load).collect())
    }

    fn chosen(served: &Served, sni: Option<&str>, offered: &[SignatureScheme]) -> String {
        let pair = served.choose(sni, offered).unwrap();
        let file = pair.summary.file.as_ref().unwrap();
        file.file_stem().unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn names_choose_exact_then_wildcard_of_one_label_then_the_first() {
        let served = served(&[
            ("first", ecdsa(&["first.test"])),
            ("wild", ecdsa(&["*.example.test", "127.0.0.1"])),
            ("api", ecdsa(&["API.example.test"])),
        ]);
        let cases = [
            (Some("first.test"), "first"),
            (Some("api.example.test"), "api"),
            (Some("www.example.test"), "wild"),
            (Some("a.b.example.test"), "first"),
            (Some("example.test"), "first"),
            (Some("*.example.test"), "wild"),
            (Some("unknown.test"), "first"),
            (Some("test"), "first"),
            (Some(""), "first"),
            (None, "first"),
        ];
        for (sni, want) in cases {
            assert_eq!(chosen(&served, sni, ALL), want, "{sni:?}");
        }
    }

    #[test]
    fn the_client_s_signature_schemes_choose_between_rsa_and_ecdsa() {
        let served = served(&[
            ("rsa", rsa(&["a.test", "*.b.test"])),
            ("ecdsa", ecdsa(&["a.test", "*.b.test"])),
        ]);
        let rsa_first = [SignatureScheme::RSA_PSS_SHA256, SignatureScheme::ECDSA_NISTP256_SHA256];
        let pkcs1_first =
            [SignatureScheme::RSA_PKCS1_SHA256, SignatureScheme::ECDSA_NISTP256_SHA256];
        for sni in [Some("a.test"), Some("x.b.test"), Some("unknown.test"), None] {
            assert_eq!(chosen(&served, sni, ALL), "ecdsa", "{sni:?}");
            assert_eq!(chosen(&served, sni, RSA_ONLY), "rsa", "{sni:?}");
            assert_eq!(chosen(&served, sni, &rsa_first), "rsa", "{sni:?}");
            assert_eq!(chosen(&served, sni, &pkcs1_first), "ecdsa", "{sni:?}");
        }
    }

    #[test]
    fn a_client_that_can_verify_nothing_still_gets_the_pair_of_its_name() {
        let served = served(&[("first", ecdsa(&["first.test"])), ("b", ecdsa(&["b.test"]))]);
        assert_eq!(chosen(&served, Some("b.test"), &[SignatureScheme::ED448]), "b");
        assert_eq!(chosen(&served, Some("b.test"), RSA_ONLY), "b");
        assert!(Served::new(Vec::new()).choose(None, ALL).is_none());
    }
}
