//! From what a user says to a storage.

use std::path::PathBuf;
use std::sync::Arc;

use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use tokio::sync::RwLock;
use url::Url;

use super::directory::Directory;
use super::{Changed, Storage};
use crate::ServerError;

/// The kind of repository that is written.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Kind {
    format: u32,
}

/// Where a repository is to lie.
#[derive(Debug, Clone)]
pub enum Location {
    /// A directory.
    Directory(PathBuf),
    /// A bucket of an object store that speaks S3.
    Bucket {
        /// `s3://bucket/prefix`.
        url: Url,
        /// How it is reached, by the names that S3 clients know from the environment, in lower case:
        /// `aws_access_key_id`, `aws_endpoint`, ….
        options: Vec<(String, String)>,
    },
    /// The process's own memory, to the end of the process.
    Memory,
}

impl Location {
    /// Takes a directory or a URL. `options` are those of buckets.
    ///
    /// # Errors
    /// [`ServerError::Location`].
    pub fn parse(text: &str, options: Vec<(String, String)>) -> Result<Self, ServerError> {
        let wrong = |why: &str| ServerError::Location { location: text.to_owned(), why: why.to_owned() };
        let Some((scheme, _)) = text.split_once("://") else {
            return Ok(Self::Directory(PathBuf::from(text)));
        };
        if scheme == "memory" {
            return Ok(Self::Memory);
        }
        let url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
        match scheme {
            "file" => {
                let path = url.to_file_path().map_err(|()| wrong("it names another host"))?;
                Ok(Self::Directory(path))
            }
            "s3" if url.host_str().is_some() => Ok(Self::Bucket { url, options }),
            "s3" => Err(wrong("it names no bucket")),
            _ => Err(wrong("repositories lie in directories and in S3 buckets")),
        }
    }
}

impl Storage {
    /// Opens the repository at `location`, making it where there is none.
    ///
    /// # Errors
    /// [`ServerError::Location`], [`ServerError::Newer`], [`ServerError::Io`], [`ServerError::Storage`].
    pub async fn open(location: &Location) -> Result<Self, ServerError> {
        let storage = match location {
            Location::Directory(root) => {
                let directory = Directory::open(root.clone())?;
                let objects = LocalFileSystem::new_with_prefix(directory.root())
                    .map_err(|error| ServerError::storage("open the directory", error))?;
                Self {
                    objects: Arc::new(objects),
                    prefix: Path::default(),
                    directory: Some(Arc::new(directory)),
                    in_use: Arc::new(RwLock::new(())),
                }
            }
            Location::Bucket { url, options } => {
                // The store's client takes the process's provider; a second call changes nothing.
                let _ = rustls::crypto::ring::default_provider().install_default();
                let wrong = |why: String| ServerError::Location { location: url.to_string(), why };
                let mut builder = AmazonS3Builder::new().with_bucket_name(url.host_str().unwrap_or_default());
                for (name, value) in options {
                    if let Ok(key) = name.to_ascii_lowercase().parse() {
                        builder = builder.with_config(key, value);
                    }
                }
                let plain = |(name, value): &(String, String)| {
                    name.starts_with("aws_endpoint") && value.starts_with("http://")
                };
                if options.iter().any(plain) {
                    builder = builder.with_allow_http(true);
                }
                let objects = builder.build().map_err(|error| wrong(error.to_string()))?;
                let prefix = Path::from_url_path(url.path()).map_err(|error| wrong(error.to_string()))?;
                Self {
                    objects: Arc::new(objects),
                    prefix,
                    directory: None,
                    in_use: Arc::new(RwLock::new(())),
                }
            }
            Location::Memory => Self {
                objects: Arc::new(InMemory::new()),
                prefix: Path::default(),
                directory: None,
                in_use: Arc::new(RwLock::new(())),
            },
        };
        storage.check_kind().await?;
        Ok(storage)
    }

    async fn check_kind(&self) -> Result<(), ServerError> {
        self.change("repository.json", |kind: Option<Kind>| match kind {
            None => Ok(Changed::To(Kind { format: FORMAT }, ())),
            Some(Kind { format: FORMAT }) => Ok(Changed::Kept(())),
            Some(Kind { format }) => Err(ServerError::Newer { found: format }),
        })
        .await
    }
}
