#include <algorithm>
#include <set>
#include <utility>

#include "storage/commit.h"
#include "storage/database.h"

namespace intarsia::storage {
namespace {

constexpr size_t kNameBytesMax = 255;

Status CheckName(std::string_view what, std::string_view name) {
  if (!name.empty() && name.size() <= kNameBytesMax) return Status::Ok();
  return Status(StatusCode::kInvalidArgument,
                "the name of a " + std::string(what) +
                    " has 1 to 255 bytes: size=" + std::to_string(name.size()));
}

Status CheckCollection(const CollectionInfo& collection) {
  INTARSIA_RETURN_IF_ERROR(CheckName("collection", collection.name));
  std::set<std::string_view> names;
  for (const Column& column : collection.columns) {
    INTARSIA_RETURN_IF_ERROR(CheckName("column", column.name));
    if (!names.insert(column.name).second) {
      return Status(StatusCode::kInvalidArgument, "two columns of one name: " + column.name);
    }
    const auto is_scalar = [](ValueType type) {
      return type >= ValueType::kBool && type <= ValueType::kString;
    };
    if ((!is_scalar(column.type) && column.type != ValueType::kList) ||
        !is_scalar(column.item_type)) {
      return Status(StatusCode::kInvalidArgument,
                    "a column of a type that columns cannot have: " + column.name);
    }
  }
  return Status::Ok();
}

Status CheckModel(const ModelInfo& model) {
  INTARSIA_RETURN_IF_ERROR(CheckName("model", model.name));
  if (model.type >= ModelType::kGenerate && model.type <= ModelType::kRerank) return Status::Ok();
  return Status(StatusCode::kInvalidArgument, "a model of an unknown type: " + model.name);
}

// kAlreadyExists if the row is there.
Status CheckFree(const Rocks& rocks, const std::string& key, std::string_view what,
                 const std::string& name) {
  INTARSIA_ASSIGN_OR_RETURN(const bool exists, rocks.Exists(Family::kCatalog, key));
  if (!exists) return Status::Ok();
  return Status(StatusCode::kAlreadyExists,
                "a " + std::string(what) + " of this name exists: " + name);
}

// The record of a model or a collection as it is now.
template <typename T>
Result<T> Existing(const Rocks& rocks, const std::string& key,
                   Result<T> (*decode)(std::string_view), const std::string& what) {
  const Result<std::string> body = rocks.Get(Family::kCatalog, key, nullptr);
  if (!body.ok() && body.status().code() == StatusCode::kNotFound) {
    return Status(StatusCode::kNotFound, "no such " + what);
  }
  INTARSIA_RETURN_IF_ERROR(body.status());
  return decode(*body);
}

}  // namespace

Result<ModelId> Database::CreateModel(const ModelInfo& model) {
  INTARSIA_RETURN_IF_ERROR(CheckWritable());
  INTARSIA_RETURN_IF_ERROR(CheckModel(model));
  Commit commit(core_.get());
  INTARSIA_RETURN_IF_ERROR(CheckFree(*core_->rocks, ModelNameKey(model.name), "model", model.name));
  ModelInfo record = model;
  record.id = commit.next_ids()->model++;
  commit.batch()->Put(Family::kCatalog, ModelKey(record.id), EncodeModel(record));
  commit.batch()->Put(Family::kCatalog, ModelNameKey(record.name), EncodeNumber(record.id));
  INTARSIA_RETURN_IF_ERROR(commit.Finish(Durability::kSync));
  return record.id;
}

Status Database::UpdateModel(const ModelInfo& model) {
  INTARSIA_RETURN_IF_ERROR(CheckWritable());
  INTARSIA_RETURN_IF_ERROR(CheckModel(model));
  Commit commit(core_.get());
  INTARSIA_ASSIGN_OR_RETURN(const ModelInfo before,
                            Existing(*core_->rocks, ModelKey(model.id), DecodeModel,
                                     "model: id=" + std::to_string(model.id)));
  if (before.name != model.name) {
    INTARSIA_RETURN_IF_ERROR(
        CheckFree(*core_->rocks, ModelNameKey(model.name), "model", model.name));
    commit.batch()->Delete(Family::kCatalog, ModelNameKey(before.name));
    commit.batch()->Put(Family::kCatalog, ModelNameKey(model.name), EncodeNumber(model.id));
  }
  commit.batch()->Put(Family::kCatalog, ModelKey(model.id), EncodeModel(model));
  return commit.Finish(Durability::kSync);
}

Status Database::DropModel(ModelId id) {
  INTARSIA_RETURN_IF_ERROR(CheckWritable());
  Commit commit(core_.get());
  INTARSIA_ASSIGN_OR_RETURN(
      const ModelInfo model,
      Existing(*core_->rocks, ModelKey(id), DecodeModel, "model: id=" + std::to_string(id)));
  commit.batch()->Delete(Family::kCatalog, ModelKey(id));
  commit.batch()->Delete(Family::kCatalog, ModelNameKey(model.name));
  const std::string prefix = VectorsOfModelPrefix(id);
  commit.batch()->DeleteRange(Family::kVectors, prefix, KeyAfterPrefix(prefix));
  INTARSIA_RETURN_IF_ERROR(commit.kv()->RemoveModel(id));
  RowCursor row = core_->rocks->ScanPrefix(Family::kMeta, "g", nullptr);
  for (; row.Valid(); row.Next()) {
    INTARSIA_ASSIGN_OR_RETURN(const std::string_view body, row.Body());
    INTARSIA_ASSIGN_OR_RETURN(const CollectionStats stats, DecodeStats(body));
    const auto is_of_model = [id](const CollectionStats::Vectors& vectors) {
      return vectors.model == id;
    };
    if (std::none_of(stats.vectors.begin(), stats.vectors.end(), is_of_model)) continue;
    INTARSIA_ASSIGN_OR_RETURN(CollectionStats * changed, commit.Stats(IdInKey(row.key(), 1)));
    std::erase_if(changed->vectors, is_of_model);
  }
  INTARSIA_RETURN_IF_ERROR(row.status());
  return commit.Finish(Durability::kSync);
}

Result<CollectionId> Database::CreateCollection(const CollectionInfo& collection) {
  INTARSIA_RETURN_IF_ERROR(CheckWritable());
  INTARSIA_RETURN_IF_ERROR(CheckCollection(collection));
  Commit commit(core_.get());
  INTARSIA_RETURN_IF_ERROR(
      CheckFree(*core_->rocks, CollectionNameKey(collection.name), "collection", collection.name));
  CollectionInfo record = collection;
  record.id = commit.next_ids()->collection++;
  commit.batch()->Put(Family::kCatalog, CollectionKey(record.id), EncodeCollection(record));
  commit.batch()->Put(Family::kCatalog, CollectionNameKey(record.name), EncodeNumber(record.id));
  commit.AddStats(record.id);
  INTARSIA_RETURN_IF_ERROR(commit.Finish(Durability::kSync));
  return record.id;
}

Status Database::UpdateCollection(const CollectionInfo& collection) {
  INTARSIA_RETURN_IF_ERROR(CheckWritable());
  INTARSIA_RETURN_IF_ERROR(CheckCollection(collection));
  Commit commit(core_.get());
  INTARSIA_ASSIGN_OR_RETURN(const CollectionInfo before,
                            Existing(*core_->rocks, CollectionKey(collection.id), DecodeCollection,
                                     "collection: id=" + std::to_string(collection.id)));
  if (before.name != collection.name) {
    INTARSIA_RETURN_IF_ERROR(CheckFree(*core_->rocks, CollectionNameKey(collection.name),
                                       "collection", collection.name));
    commit.batch()->Delete(Family::kCatalog, CollectionNameKey(before.name));
    commit.batch()->Put(Family::kCatalog, CollectionNameKey(collection.name),
                        EncodeNumber(collection.id));
  }
  commit.batch()->Put(Family::kCatalog, CollectionKey(collection.id), EncodeCollection(collection));
  INTARSIA_RETURN_IF_ERROR(commit.Stats(collection.id).status());  // For the generation.
  return commit.Finish(Durability::kSync);
}

Status Database::PutSetting(std::string_view name, std::string_view value) {
  INTARSIA_RETURN_IF_ERROR(CheckWritable());
  INTARSIA_RETURN_IF_ERROR(CheckName("setting", name));
  Commit commit(core_.get());
  commit.batch()->Put(Family::kCatalog, SettingKey(name), value);
  return commit.Finish(Durability::kSync);
}

Status Database::RemoveSetting(std::string_view name) {
  INTARSIA_RETURN_IF_ERROR(CheckWritable());
  Commit commit(core_.get());
  commit.batch()->Delete(Family::kCatalog, SettingKey(name));
  return commit.Finish(Durability::kSync);
}

}  // namespace intarsia::storage
