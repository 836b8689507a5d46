#include "storage/kv_refs.h"

namespace intarsia::storage {
namespace {

constexpr size_t kDigestBytes = sizeof(Digest::bytes);

// `owner_prefix` is what stands before the identity in the row from the owner to the cache.
std::string OwnerRow(const Digest& identity, std::string_view owner_prefix) {
  return Key('r').Hash(identity).Name(owner_prefix).bytes();
}
std::string CacheRow(const Digest& identity, std::string_view owner_prefix) {
  return std::string(owner_prefix).append(identity.view());
}

}  // namespace

std::string KvCollectionPrefix(CollectionId collection) { return Key('d').Id(collection).bytes(); }
std::string KvDocumentPrefix(CollectionId collection, DocumentId document) {
  return Key('d').Id(collection).Id(document).bytes();
}
std::string KvChunkPrefix(const KvOwner& owner) {
  return Key('d').Id(owner.collection).Id(owner.document).Id(owner.chunk).bytes();
}
std::string KvChunkKey(const Digest& identity, const KvOwner& owner) {
  return CacheRow(identity, KvChunkPrefix(owner));
}
std::string KvOwnersPrefix(const Digest& identity) { return Key('r').Hash(identity).bytes(); }
std::string KvModelPrefix(ModelId model) { return Key('m').Id(model).bytes(); }

Result<Digest> IdentityInKey(std::string_view key) {
  if (key.size() < kDigestBytes) {
    return Status(StatusCode::kCorruption,
                  "a reference row is too short: size=" + std::to_string(key.size()));
  }
  return Digest::FromBytes(key.substr(key.size() - kDigestBytes));
}

void AddKvOwner(const Digest& identity, const KvOwner& owner, RowBatch* batch) {
  const auto add = [&](const std::string& prefix) {
    batch->PutKey(Family::kKvRefs, CacheRow(identity, prefix));
    batch->PutKey(Family::kKvRefs, OwnerRow(identity, prefix));
  };
  if (owner.collection != 0) {
    add(KvChunkPrefix(owner));
  }
  if (owner.model != 0) add(KvModelPrefix(owner.model));
}

Status KvRefRemoval::RemoveOwners(const std::string& prefix) {
  RowCursor row = rocks_->ScanPrefix(Family::kKvRefs, prefix, nullptr);
  for (; row.Valid(); row.Next()) {
    const std::string_view key = row.key();
    INTARSIA_ASSIGN_OR_RETURN(const Digest identity, IdentityInKey(key));
    batch_->Delete(Family::kKvRefs, key);
    batch_->Delete(Family::kKvRefs, OwnerRow(identity, key.substr(0, key.size() - kDigestBytes)));
    removed_rows_.insert(std::string(key));
    touched_.insert(identity);
  }
  return row.status();
}

Status KvRefRemoval::RemoveModel(ModelId model) {
  RowCursor row = rocks_->ScanPrefix(Family::kKvRefs, KvModelPrefix(model), nullptr);
  for (; row.Valid(); row.Next()) {
    INTARSIA_ASSIGN_OR_RETURN(const Digest identity, IdentityInKey(row.key()));
    INTARSIA_RETURN_IF_ERROR(RemoveEntry(identity));
  }
  return row.status();
}

Status KvRefRemoval::RemoveEntry(const Digest& identity) {
  if (!gone_.insert(identity).second) return Status::Ok();
  const std::string prefix = KvOwnersPrefix(identity);
  RowCursor row = rocks_->ScanPrefix(Family::kKvRefs, prefix, nullptr);
  for (; row.Valid(); row.Next()) {
    batch_->Delete(Family::kKvRefs, row.key());
    batch_->Delete(Family::kKvRefs, CacheRow(identity, row.key().substr(prefix.size())));
  }
  batch_->Delete(Family::kKvIndex, KvEntryKey(identity));
  batch_->Delete(Family::kKvIndex, KvUseKey(identity));
  batch_->Delete(Family::kKvIndex, KvRetentionKey(identity));
  return row.status();
}

Result<bool> KvRefRemoval::HasChunkLeft(const Digest& identity) const {
  const std::string prefix = KvOwnersPrefix(identity);
  RowCursor row = rocks_->ScanPrefix(Family::kKvRefs, prefix + 'd', nullptr);
  for (; row.Valid(); row.Next()) {
    if (!removed_rows_.contains(CacheRow(identity, row.key().substr(prefix.size())))) return true;
  }
  INTARSIA_RETURN_IF_ERROR(row.status());
  return false;
}

Status KvRefRemoval::Finish() {
  for (const Digest& identity : touched_) {
    INTARSIA_ASSIGN_OR_RETURN(const bool has_chunk_left, HasChunkLeft(identity));
    if (!has_chunk_left) INTARSIA_RETURN_IF_ERROR(RemoveEntry(identity));
  }
  return Status::Ok();
}

}  // namespace intarsia::storage
