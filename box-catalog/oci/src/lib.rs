//! Images of OCI registries: their layers as one root file system, and boxes as artifacts.
