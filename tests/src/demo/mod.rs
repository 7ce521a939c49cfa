//! What a demo needs beside a stage: an observer of certificates, a narrator, and a summary for programs.

pub mod narrator;
pub mod observer;
pub mod rotation;
pub mod summary;
