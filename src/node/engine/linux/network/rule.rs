//! One rule of a packet filter: conditions and a verdict, in the kernel's encoding.
//!
//! A rule is a small program: expressions load a property of the packet into a register and compare it, and the first
//! comparison that fails ends the rule.

use super::netlink::Attributes;

/// Room of an interface's name, `IFNAMSIZ`.
pub(super) const INTERFACE_NAME: usize = 16;

/// The address family of IPv4, `NFPROTO_IPV4`.
const IPV4: u8 = 2;

/// Numbers of `linux/netfilter/nf_tables.h` that the libc crate does not have.
mod kernel {
    pub(super) const LIST_ELEM: u16 = 1;

    /// `NFTNL_UDATA_RULE_COMMENT` of libnftnl.
    pub(super) const USERDATA_COMMENT: u8 = 0;

    pub(super) const EXPRESSION_NAME: u16 = 1;
    pub(super) const EXPRESSION_DATA: u16 = 2;
    pub(super) const DATA_VALUE: u16 = 1;
    pub(super) const DATA_VERDICT: u16 = 2;
    pub(super) const VERDICT_CODE: u16 = 1;

    /// Destination register and key, of the expressions `meta` and `ct` alike.
    pub(super) const LOAD_REGISTER: u16 = 1;
    pub(super) const LOAD_KEY: u16 = 2;
    pub(super) const META_INPUT_NAME: u32 = 6;
    pub(super) const META_OUTPUT_NAME: u32 = 7;
    pub(super) const META_FAMILY: u32 = 15;
    pub(super) const META_OUTPUT_KIND: u32 = 27;
    pub(super) const CT_STATE: u32 = 0;
    pub(super) const CT_STATUS: u32 = 2;

    pub(super) const COMPARE_REGISTER: u16 = 1;
    pub(super) const COMPARE_OPERATION: u16 = 2;
    pub(super) const COMPARE_DATA: u16 = 3;

    pub(super) const BITWISE_SOURCE: u16 = 1;
    pub(super) const BITWISE_DESTINATION: u16 = 2;
    pub(super) const BITWISE_LENGTH: u16 = 3;
    pub(super) const BITWISE_MASK: u16 = 4;
    pub(super) const BITWISE_XOR: u16 = 5;

    pub(super) const PAYLOAD_REGISTER: u16 = 1;
    pub(super) const PAYLOAD_BASE: u16 = 2;
    pub(super) const PAYLOAD_OFFSET: u16 = 3;
    pub(super) const PAYLOAD_LENGTH: u16 = 4;
    pub(super) const NETWORK_HEADER: u32 = 1;
    pub(super) const TRANSPORT_HEADER: u32 = 2;

    pub(super) const LOOKUP_SET: u16 = 1;
    pub(super) const LOOKUP_REGISTER: u16 = 2;
    pub(super) const LOOKUP_FLAGS: u16 = 5;

    pub(super) const IMMEDIATE_REGISTER: u16 = 1;
    pub(super) const IMMEDIATE_DATA: u16 = 2;

    /// The register of the verdict, and two neighbouring ones of four octets each.
    pub(super) const REGISTER_VERDICT: u32 = 0;
    pub(super) const REGISTER: u32 = 8;
    pub(super) const REGISTER_NEXT: u32 = 9;
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It leaves the chain. Other chains at the same place can still drop it.
    Accept,
    /// It goes no further.
    Drop,
}

impl Verdict {
    /// The kernel's number for it.
    pub(super) fn code(self) -> u32 {
        match self {
            Self::Drop => 0,
            Self::Accept => 1,
        }
    }
}

/// A name as the kernel compares it: padded with zero octets. One that is too long is cut, and so equals no interface's.
pub(super) fn interface_key(name: &str) -> [u8; INTERFACE_NAME] {
    let mut key = [0; INTERFACE_NAME];
    for (place, octet) in key.iter_mut().zip(name.bytes()) {
        *place = octet;
    }
    key
}

/// A rule: conditions that must all hold, and what then becomes of the packet.
#[derive(Debug, Clone, Default)]
pub(super) struct Rule {
    /// The program.
    pub(super) expressions: Attributes,
    /// A text by which the rule is found again.
    pub(super) comment: Option<String>,
}

impl Rule {
    /// A rule without conditions.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// The packet came in through this interface.
    pub(super) fn coming_through(self, name: &str) -> Self {
        self.meta(kernel::META_INPUT_NAME)
            .equals(&interface_key(name))
    }

    /// The packet did not come in through this interface.
    pub(super) fn not_coming_through(self, name: &str) -> Self {
        self.meta(kernel::META_INPUT_NAME)
            .differs(&interface_key(name))
    }

    /// The packet goes out through this interface.
    pub(super) fn leaving_through(self, name: &str) -> Self {
        self.meta(kernel::META_OUTPUT_NAME)
            .equals(&interface_key(name))
    }

    /// The packet goes out through an interface of this kind.
    pub(super) fn leaving_through_kind(self, kind: &str) -> Self {
        self.meta(kernel::META_OUTPUT_KIND)
            .equals(&interface_key(kind))
    }

    /// The packet goes out through an interface that is not in the set.
    pub(super) fn leaving_through_none_of(self, set: &str) -> Self {
        const INVERTED: u32 = 1;
        self.meta(kernel::META_OUTPUT_NAME).lookup(set, INVERTED)
    }

    /// The packet is not an IPv4 one.
    pub(super) fn not_ipv4(self) -> Self {
        self.meta(kernel::META_FAMILY).differs(&[IPV4])
    }

    /// The packet is malformed or belongs to a connection that was never begun.
    pub(super) fn invalid(self) -> Self {
        self.connection(kernel::CT_STATE, 1)
    }

    /// The packet belongs to a connection that was accepted when it began, or is an error message about one.
    pub(super) fn established(self) -> Self {
        self.connection(kernel::CT_STATE, 2 | 4)
    }

    /// The packet was sent to another address than the one it goes to.
    pub(super) fn redirected(self) -> Self {
        const DESTINATION_NAT: u32 = 1 << 5;
        self.connection(kernel::CT_STATUS, DESTINATION_NAT)
    }

    /// The destination is in a set of addresses.
    pub(super) fn destination_in(self, set: &str) -> Self {
        self.payload(kernel::NETWORK_HEADER, kernel::REGISTER, 16, 4)
            .lookup(set, 0)
    }

    /// The destination is in 169.254.0.0/16, the range for addresses that are valid on one link only.
    pub(super) fn link_local_destination(self) -> Self {
        self.payload(kernel::NETWORK_HEADER, kernel::REGISTER, 16, 2)
            .equals(&[169, 254])
    }

    /// The destination's port is not this one.
    pub(super) fn not_to_port(self, port: u16) -> Self {
        self.payload(kernel::TRANSPORT_HEADER, kernel::REGISTER, 2, 2)
            .differs(&port.to_be_bytes())
    }

    /// Source and destination are in a set of pairs.
    pub(super) fn pair_in(self, set: &str) -> Self {
        self.payload(kernel::NETWORK_HEADER, kernel::REGISTER, 12, 8)
            .lookup(set, 0)
    }

    /// Destination and source, in this order, are in a set of pairs.
    pub(super) fn reversed_pair_in(self, set: &str) -> Self {
        self.payload(kernel::NETWORK_HEADER, kernel::REGISTER, 16, 4)
            .payload(kernel::NETWORK_HEADER, kernel::REGISTER_NEXT, 12, 4)
            .lookup(set, 0)
    }

    /// Counts the packets, as the rules that `iptables` makes do.
    pub(super) fn counted(self) -> Self {
        self.expression("counter", Attributes::new())
    }

    /// Gives the packet the address of the interface through which it leaves, and its answers the original one.
    pub(super) fn masquerade(self) -> Self {
        self.expression("masq", Attributes::new())
    }

    /// Lets the packet leave the chain. Other chains at the same place can still drop it.
    pub(super) fn accept(self) -> Self {
        self.verdict(Verdict::Accept)
    }

    /// Lets the packet go no further.
    pub(super) fn discard(self) -> Self {
        self.verdict(Verdict::Drop)
    }

    fn verdict(self, verdict: Verdict) -> Self {
        let code = Attributes::new().with(kernel::VERDICT_CODE, verdict.code().to_be_bytes());
        let data = Attributes::new().with_nested(kernel::DATA_VERDICT, code);
        let immediate = Attributes::new()
            .with(
                kernel::IMMEDIATE_REGISTER,
                kernel::REGISTER_VERDICT.to_be_bytes(),
            )
            .with_nested(kernel::IMMEDIATE_DATA, data);
        self.expression("immediate", immediate)
    }

    /// A text by which the rule is found again.
    pub(super) fn comment(mut self, text: &str) -> Self {
        self.comment = Some(text.to_owned());
        self
    }

    fn expression(mut self, name: &str, data: Attributes) -> Self {
        let expression = Attributes::new()
            .with_text(kernel::EXPRESSION_NAME, name)
            .with_nested(kernel::EXPRESSION_DATA, data);
        self.expressions = self.expressions.with_nested(kernel::LIST_ELEM, expression);
        self
    }

    fn load(self, expression: &str, key: u32) -> Self {
        let load = Attributes::new()
            .with(kernel::LOAD_REGISTER, kernel::REGISTER.to_be_bytes())
            .with(kernel::LOAD_KEY, key.to_be_bytes());
        self.expression(expression, load)
    }

    fn meta(self, key: u32) -> Self {
        self.load("meta", key)
    }

    /// One of the bits is set in a property of the packet's connection.
    fn connection(self, key: u32, bits: u32) -> Self {
        let bitwise = Attributes::new()
            .with(kernel::BITWISE_SOURCE, kernel::REGISTER.to_be_bytes())
            .with(kernel::BITWISE_DESTINATION, kernel::REGISTER.to_be_bytes())
            .with(kernel::BITWISE_LENGTH, 4_u32.to_be_bytes())
            .with_nested(kernel::BITWISE_MASK, value(&bits.to_ne_bytes()))
            .with_nested(kernel::BITWISE_XOR, value(&[0; 4]));
        self.load("ct", key)
            .expression("bitwise", bitwise)
            .differs(&[0; 4])
    }

    fn payload(self, base: u32, register: u32, offset: u32, length: u32) -> Self {
        let payload = Attributes::new()
            .with(kernel::PAYLOAD_REGISTER, register.to_be_bytes())
            .with(kernel::PAYLOAD_BASE, base.to_be_bytes())
            .with(kernel::PAYLOAD_OFFSET, offset.to_be_bytes())
            .with(kernel::PAYLOAD_LENGTH, length.to_be_bytes());
        self.expression("payload", payload)
    }

    fn lookup(self, set: &str, flags: u32) -> Self {
        let lookup = Attributes::new()
            .with_text(kernel::LOOKUP_SET, set)
            .with(kernel::LOOKUP_REGISTER, kernel::REGISTER.to_be_bytes())
            .with(kernel::LOOKUP_FLAGS, flags.to_be_bytes());
        self.expression("lookup", lookup)
    }

    fn equals(self, data: &[u8]) -> Self {
        const EQUAL: u32 = 0;
        self.compare(EQUAL, data)
    }

    fn differs(self, data: &[u8]) -> Self {
        const NOT_EQUAL: u32 = 1;
        self.compare(NOT_EQUAL, data)
    }

    fn compare(self, operation: u32, data: &[u8]) -> Self {
        let compare = Attributes::new()
            .with(kernel::COMPARE_REGISTER, kernel::REGISTER.to_be_bytes())
            .with(kernel::COMPARE_OPERATION, operation.to_be_bytes())
            .with_nested(kernel::COMPARE_DATA, value(data));
        self.expression("cmp", compare)
    }
}

/// Data as expressions and sets hold them.
pub(super) fn value(data: &[u8]) -> Attributes {
    Attributes::new().with(kernel::DATA_VALUE, data)
}

/// A comment as the `nft` program writes it: type, length with the zero octet, text.
pub(super) fn comment_data(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len() + 1).expect("comments are short");
    [&[kernel::USERDATA_COMMENT, length], text.as_bytes(), b"\0"].concat()
}
