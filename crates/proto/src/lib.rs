//! Every wire format, to and from core requests. Total functions on bytes: no sockets, no clock, no global
//! state; whatever comes in, they answer within the stated limits and never panic.

pub mod aws;
pub mod boot;
pub mod rest;
pub mod tang;
mod time;
