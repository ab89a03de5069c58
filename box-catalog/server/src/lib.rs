//! The repository server: boxes over HTTP.
