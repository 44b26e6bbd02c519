//! Status codes of a WebSocket's end: RFC 6455 §7.4. Which of them may stand in a Close frame, and
//! what a metric calls them.

/// A code that stood in a Close frame, or one of the two that say why none did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CloseCode(u16);

impl CloseCode {
    /// The gate stops, or the socket has had its time.
    pub(crate) const GOING_AWAY: Self = Self(1001);
    pub(crate) const PROTOCOL_ERROR: Self = Self(1002);
    /// A Close frame without a code (RFC 6455 §7.1.5). Never sent.
    pub(crate) const NONE: Self = Self(1005);
    /// The connection ended without a Close frame. Never sent.
    pub(crate) const ABNORMAL: Self = Self(1006);
    pub(crate) const POLICY: Self = Self(1008);
    pub(crate) const TOO_BIG: Self = Self(1009);
    /// The gate restarts: come back (registered by IANA).
    pub(crate) const SERVICE_RESTART: Self = Self(1012);

    /// The code, if a Close frame may carry it.
    ///
    /// 1004, 1005, 1006 and 1015 may not (RFC 6455 §7.4.1), nor what is below 1000 or above 4999.
    /// Stricter than the text: 1016–2999, reserved and registered for nothing, are refused too, as
    /// browsers and servers do.
    pub(crate) fn on_the_wire(code: u16) -> Option<Self> {
        matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999).then_some(Self(code))
    }

    /// What a Close frame of the gate's own carries; `None` where it must carry no code.
    pub(crate) fn to_send(self) -> Option<u16> {
        (self != Self::NONE && self != Self::ABNORMAL).then_some(self.0)
    }

    /// The number.
    pub(crate) fn get(self) -> u16 {
        self.0
    }

    /// The label: one of sixteen.
    pub(crate) fn label(self) -> &'static str {
        match self.0 {
            1000 => "1000",
            1001 => "1001",
            1002 => "1002",
            1003 => "1003",
            1005 => "1005",
            1006 => "1006",
            1007 => "1007",
            1008 => "1008",
            1009 => "1009",
            1010 => "1010",
            1011 => "1011",
            1012 => "1012",
            1013 => "1013",
            1014 => "1014",
            3000..=3999 => "3xxx",
            // Nothing else can be made: 4000–4999.
            _ => "4xxx",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_assigned_and_private_codes_stand_on_the_wire() {
        let refused = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, u16::MAX];
        for code in refused {
            assert_eq!(CloseCode::on_the_wire(code), None, "{code}");
        }
        for code in [1000, 1001, 1003, 1007, 1014, 3000, 3999, 4000, 4999] {
            assert_eq!(CloseCode::on_the_wire(code).map(CloseCode::get), Some(code), "{code}");
        }
    }

    #[test]
    fn labels_are_the_code_or_its_range() {
        for code in (0..=u16::MAX).filter_map(CloseCode::on_the_wire) {
            let expected = match code.get() {
                3000..=3999 => "3xxx".to_owned(),
                4000..=4999 => "4xxx".to_owned(),
                low => low.to_string(),
            };
            assert_eq!(code.label(), expected);
        }
        assert_eq!(CloseCode::NONE.label(), "1005");
        assert_eq!(CloseCode::ABNORMAL.label(), "1006");
    }

    #[test]
    fn what_the_gate_sends_is_valid_or_without_a_code() {
        let ours = [
            CloseCode::GOING_AWAY,
            CloseCode::PROTOCOL_ERROR,
            CloseCode::POLICY,
            CloseCode::TOO_BIG,
            CloseCode::SERVICE_RESTART,
        ];
        for code in ours {
            assert_eq!(code.to_send().and_then(CloseCode::on_the_wire), Some(code));
        }
        assert_eq!(CloseCode::NONE.to_send(), None);
        assert_eq!(CloseCode::ABNORMAL.to_send(), None);
    }
}
