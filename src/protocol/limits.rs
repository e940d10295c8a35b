//! What a user may take of a location at most.

use serde::{Deserialize, Serialize};

/// One limit, as it is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// What holds for users without a limit of their own.
    Default,
    /// None.
    Unlimited,
    /// This much.
    AtMost(u64),
}

/// Changes of limits. What is not given stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitChanges {
    /// Containers at once, over all sessions.
    pub containers: Option<Limit>,
    /// Sum of the memory limits of these containers, in bytes.
    pub memory: Option<Limit>,
    /// Layers and descriptions of images that are stored, in bytes.
    pub stored: Option<Limit>,
    /// Sessions at once.
    pub sessions: Option<Limit>,
}

/// The limits of a user, or those that hold for users without their own, and what is used of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsInfo {
    /// The user's id; none for the default ones.
    pub id: Option<String>,
    /// What the user's invitation was made out to.
    pub name: Option<String>,
    /// Containers at once, over all sessions.
    pub containers: LimitInfo,
    /// Sum of the memory limits of these containers, in bytes.
    pub memory: LimitInfo,
    /// Layers and descriptions of images that are stored, in bytes.
    pub stored: LimitInfo,
    /// Sessions at once.
    pub sessions: LimitInfo,
}

/// One limit as it holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitInfo {
    /// The most; none if there is no limit.
    pub limit: Option<u64>,
    /// Whether that was set for this user.
    pub own: bool,
    /// What is used of it.
    pub used: u64,
}
