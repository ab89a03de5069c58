//! Content-addressed chunks: large files cut by their content, each piece kept once.
