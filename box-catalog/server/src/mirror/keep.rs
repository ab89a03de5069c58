//! Files that are here: whether they are still what the catalog offers, and what is written down of them.

use std::time::Instant;

use chrono::{TimeDelta, Utc};

use super::{DOWN, Failed, Kept, Mirror, MirrorDocument, MirrorFile, Place};
use crate::refusal::Refusal;
use crate::{Repository, Sha256};

/// How exactly it is known when a file was last wanted.
const ASKED: TimeDelta = TimeDelta::hours(1);

impl Mirror {
    /// Whether a file that is here is what its catalog offers now.
    pub(crate) async fn is_current(
        &self,
        repository: &Repository,
        place: &Place,
        file: &MirrorFile,
        kept: &Kept,
    ) -> bool {
        if file.checksum.is_some() || kept.validator.is_none() || self.is_fresh(kept.checked) {
            return true;
        }
        if self.down.why().is_some() {
            return true;
        }
        let began = Instant::now();
        match self.upstream.head(&file.url).await {
            Ok((Some(validator), _)) if Some(&validator) != kept.validator.as_ref() => false,
            Ok((Some(_), _)) => {
                let kept = Kept { checked: Utc::now(), ..kept.clone() };
                self.write_kept(repository, place, file, kept, None).await;
                true
            }
            // Nobody can tell: an office whose line is down goes on with what it has.
            Ok((None, _)) => true,
            Err(failed) => {
                if failed.passing {
                    self.down.failed(began, &failed, self.settings.fresh, DOWN);
                }
                true
            }
        }
    }

    /// How large a file is that is not here.
    pub(crate) async fn size_of(&self, file: &MirrorFile) -> Result<Option<u64>, Failed> {
        match file.size {
            Some(size) => Ok(Some(size)),
            None => Ok(self.upstream.head(&file.url).await?.1),
        }
    }

    /// Somebody wants a file that is here.
    pub(crate) async fn asked(&self, repository: &Repository, place: &Place, file: &MirrorFile, kept: &Kept) {
        self.figures.hit();
        let now = Utc::now();
        if now - kept.asked >= ASKED {
            self.write_kept(repository, place, file, Kept { asked: now, ..kept.clone() }, None).await;
        }
    }

    /// The signature of a file, where there is one.
    pub(crate) async fn signature(
        &self,
        repository: &Repository,
        place: &Place,
        file: &MirrorFile,
    ) -> Result<String, Refusal> {
        let known = file.signature.clone().or_else(|| file.beside.clone());
        let found = match known {
            Some(known) => Some(known),
            None => {
                let found = self.upstream.signature(&file.url).await?;
                if let (Some(found), Some(kept)) = (&found, &file.kept) {
                    self.write_kept(repository, place, file, kept.clone(), Some(found.clone())).await;
                }
                found
            }
        };
        found.ok_or_else(|| Refusal::not_found("this file is not signed"))
    }

    /// Writes down that a file is here.
    pub(super) async fn keep(
        &self,
        repository: &Repository,
        place: &Place,
        file: &MirrorFile,
        size: u64,
        sha256: Sha256,
        validator: Option<String>,
    ) -> Result<(), Failed> {
        // Without it the file is as good; who wants it asks for it then.
        let beside = match file.signature {
            Some(_) => None,
            None => self.upstream.signature(&file.url).await.ok().flatten(),
        };
        let now = Utc::now();
        let kept = Kept { sha256, size, validator, checked: now, asked: now };
        self.change_kept(repository, place, file, kept, beside).await
    }

    /// The same, where it is no harm when it does not come about.
    async fn write_kept(
        &self,
        repository: &Repository,
        place: &Place,
        file: &MirrorFile,
        kept: Kept,
        beside: Option<String>,
    ) {
        if let Err(failed) = self.change_kept(repository, place, file, kept, beside).await {
            self.note(&format!("what is known of {place} is not written down: {}", failed.message));
        }
    }

    async fn change_kept(
        &self,
        repository: &Repository,
        place: &Place,
        file: &MirrorFile,
        kept: Kept,
        beside: Option<String>,
    ) -> Result<(), Failed> {
        let change = |before: Option<MirrorDocument>| {
            let mut document = before?;
            let there = document.file_mut(&place.version, &place.provider, &place.architecture)?;
            // Another file by now: this one is nobody's.
            if !there.is_same_content(file) {
                return None;
            }
            let old = there.kept.replace(kept.clone());
            if beside.is_some() {
                there.beside.clone_from(&beside);
            }
            if let Some(old) = old.filter(|old| old.sha256 != kept.sha256) {
                document.drop_file(old.sha256, kept.checked);
            }
            Some(document)
        };
        repository.change_mirrored(&place.name, change).await?;
        Ok(())
    }

    /// What another server has made of a file since `file` was read.
    pub(super) async fn kept(
        &self,
        repository: &Repository,
        place: &Place,
        file: &MirrorFile,
    ) -> Result<Option<Kept>, Failed> {
        let Some(document) = self.stored(repository, &place.name).await? else { return Ok(None) };
        let now = document.file(&place.version, &place.provider, &place.architecture);
        let kept = now.filter(|now| now.is_same_content(file)).and_then(|now| now.kept.clone());
        let seen = file.kept.as_ref();
        let is_new = |kept: &Kept| {
            seen.is_none_or(|seen| (seen.sha256, &seen.validator) != (kept.sha256, &kept.validator))
        };
        Ok(kept.filter(is_new))
    }
}
