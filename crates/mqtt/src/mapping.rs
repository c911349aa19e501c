//! Reason codes, and what becomes of the model's refusals.

use broker::Refusal;

/// Reason codes (MQTT 5, section 2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the specification's names")]
pub enum Reason {
    Success = 0x00,
    GrantedQos1 = 0x01,
    GrantedQos2 = 0x02,
    DisconnectWithWill = 0x04,
    NoMatchingSubscribers = 0x10,
    NoSubscriptionExisted = 0x11,
    ContinueAuthentication = 0x18,
    ReAuthenticate = 0x19,
    UnspecifiedError = 0x80,
    MalformedPacket = 0x81,
    ProtocolError = 0x82,
    ImplementationSpecificError = 0x83,
    UnsupportedProtocolVersion = 0x84,
    ClientIdentifierNotValid = 0x85,
    BadUserNameOrPassword = 0x86,
    NotAuthorized = 0x87,
    ServerUnavailable = 0x88,
    ServerBusy = 0x89,
    Banned = 0x8a,
    ServerShuttingDown = 0x8b,
    BadAuthenticationMethod = 0x8c,
    KeepAliveTimeout = 0x8d,
    SessionTakenOver = 0x8e,
    TopicFilterInvalid = 0x8f,
    TopicNameInvalid = 0x90,
    PacketIdentifierInUse = 0x91,
    PacketIdentifierNotFound = 0x92,
    ReceiveMaximumExceeded = 0x93,
    TopicAliasInvalid = 0x94,
    PacketTooLarge = 0x95,
    QuotaExceeded = 0x97,
    AdministrativeAction = 0x98,
    PayloadFormatInvalid = 0x99,
    QosNotSupported = 0x9b,
    ConnectionRateExceeded = 0x9f,
    MaximumConnectTime = 0xa0,
}

impl Reason {
    /// The return code by which CONNACK of MQTT 3 says the same, or comes closest (3.1.1, section 3.2.2.3).
    pub fn return_code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::UnsupportedProtocolVersion => 1,
            Self::ClientIdentifierNotValid => 2,
            Self::BadUserNameOrPassword | Self::BadAuthenticationMethod => 4,
            Self::NotAuthorized | Self::Banned => 5,
            _ => 3,
        }
    }

    /// What a refusal of the model is to an MQTT client.
    pub fn of(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::AccessRefused { .. } | Refusal::VhostRefused { .. } | Refusal::TopicRefused { .. } => {
                Self::NotAuthorized
            }
            Refusal::VhostNotFound(_) => Self::BadUserNameOrPassword,
            Refusal::TooMany(_) | Refusal::Limit(_) => Self::QuotaExceeded,
            _ => Self::ImplementationSpecificError,
        }
    }
}
