#include "engine/vector_files.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>
#include <tuple>
#include <utility>

#include "base/log.h"

namespace intarsia::engine {
namespace {

constexpr std::string_view kPrefix = "vectors-";
constexpr std::string_view kSuffix = ".vec";

// Takes the number that `text` begins with, and `behind` it, away.
std::optional<uint64_t> TakeNumber(std::string_view* text, std::string_view behind) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), number);
  text->remove_prefix(static_cast<size_t>(end - text->data()));
  if (error != std::errc() || !text->starts_with(behind)) return std::nullopt;
  text->remove_prefix(behind.size());
  return number;
}

}  // namespace

VectorFiles::VectorFiles(storage::Database* database, FileSystem* file_system)
    : database_(database),
      file_system_(file_system),
      folder_(database->path() + "/index"),
      is_writable_(database->access() != storage::AccessMode::kReadOnly),
      uuid_(database->uuid()) {
  if (is_writable_) Sweep();
}

index::VectorFileIdentity VectorFiles::IdentityOf(storage::CollectionId collection,
                                                  storage::ModelId model,
                                                  uint64_t generation) const {
  return {.database = uuid_, .collection = collection, .model = model, .generation = generation};
}

std::vector<VectorFiles::Name> VectorFiles::List(std::vector<std::string>* unfinished) const {
  std::vector<Name> names;
  if (!file_system_->Exists(folder_)) return names;
  const Result<std::vector<DirectoryEntry>> entries = file_system_->List(folder_);
  if (!entries.ok()) {
    Log(LogLevel::kWarning, "vector files not listed: " + entries.status().ToString());
    return names;
  }
  for (const DirectoryEntry& entry : *entries) {
    std::string_view rest = entry.name;
    if (!rest.starts_with(kPrefix)) continue;
    rest.remove_prefix(kPrefix.size());
    const auto collection = TakeNumber(&rest, "-");
    const auto begin = collection.has_value() ? TakeNumber(&rest, "-") : std::nullopt;
    const auto end = begin.has_value() ? TakeNumber(&rest, kSuffix) : std::nullopt;
    if (!end.has_value()) continue;
    const std::string path = folder_ + "/" + entry.name;
    if (rest.empty()) {
      names.push_back(
          {path, *collection, static_cast<int64_t>(*begin), static_cast<int64_t>(*end)});
    } else if (unfinished != nullptr) {
      unfinished->push_back(path);
    }
  }
  std::ranges::sort(names, [](const Name& a, const Name& b) {
    return std::tuple(a.collection, a.begin, -a.end) < std::tuple(b.collection, b.begin, -b.end);
  });
  return names;
}

std::vector<VectorFiles::Name> VectorFiles::ListOf(storage::CollectionId collection) const {
  std::vector<Name> names = List(nullptr);
  std::erase_if(names, [collection](const Name& name) { return name.collection != collection; });
  return names;
}

// A file of the future would fit again once the collection has gone on from an older state, with
// other vectors under the same ids. So it must not wait until its collection is searched.
void VectorFiles::Sweep() {
  std::vector<std::string> unfinished;
  const std::vector<Name> names = List(&unfinished);
  for (const std::string& path : unfinished) RemoveFile(path, "it was not finished");
  const storage::ReadView view = database_->Read();
  for (const Name& name : names) {
    const auto header = index::ReadVectorFileHeader(file_system_, name.path);
    const std::string why =
        header.ok() ? WhyNot(*header, name, view) : std::string(header.status().message());
    if (!why.empty()) RemoveFile(name.path, why);
  }
}

std::string VectorFiles::WhyNot(const index::VectorFileHeader& header, const Name& name,
                                const storage::ReadView& view) const {
  if (header.identity.database != uuid_) return "it is of another database";
  if (header.identity.collection != name.collection || header.first_row != name.begin ||
      header.num_rows != name.end - name.begin) {
    return "it has the name of another one";
  }
  const auto stats = view.GetStats(name.collection);
  if (!stats.ok()) return std::string(stats.status().message());
  const auto changed_at = view.VectorsChangedAt(name.collection);
  if (!changed_at.ok()) return std::string(changed_at.status().message());
  const auto row = std::ranges::find(stats->vectors, header.identity.model,
                                     &storage::CollectionStats::Vectors::model);
  if (row == stats->vectors.end() || row->dimension != header.dim) return "its model has changed";
  if (header.identity.generation > stats->generation) return "it is newer than the collection";
  if (header.identity.generation < *changed_at) return "vectors have been replaced since";
  return {};
}

void VectorFiles::RemoveFile(const std::string& path, const std::string& why) {
  Log(LogLevel::kWarning,
      "vector file removed, it is made anew from the database: path=" + path + " reason=" + why);
  const Status removed = file_system_->Remove(path);
  if (!removed.ok()) Log(LogLevel::kWarning, "vector file not removed: " + removed.ToString());
}

VectorFileChain VectorFiles::Open(const storage::ReadView& view, storage::CollectionId collection) {
  VectorFileChain chain;
  for (const Name& name : ListOf(collection)) {
    const int64_t end = chain.empty() ? 0 : chain.back()->end_row();
    std::string why;
    if (name.begin != end) {
      why = "it does not follow the others";
    } else {
      auto file = index::VectorFile::Open(file_system_, name.path);
      why = file.ok() ? WhyNot((*file)->header(), name, view) : file.status().ToString();
      if (why.empty() && !chain.empty()) {
        const index::VectorFile& last = *chain.back();
        const bool fits = last.header().identity.model == (*file)->header().identity.model &&
                          last.ids().back() < (*file)->ids().front() &&
                          last.space() == (*file)->space();
        if (!fits) why = "it does not go with the others";
      }
      if (why.empty()) chain.push_back(*std::move(file));
    }
    if (why.empty()) continue;
    if (is_writable_) {
      RemoveFile(name.path, why);
    } else {
      Log(LogLevel::kWarning, "vector file not used: path=" + name.path + " reason=" + why);
    }
  }
  return chain;
}

Result<std::shared_ptr<const index::VectorFile>> VectorFiles::Write(
    const index::VectorFileParams& params) {
  const std::string path =
      folder_ + "/" + std::string(kPrefix) + std::to_string(params.identity.collection) + "-" +
      std::to_string(params.begin) + "-" + std::to_string(params.end) + std::string(kSuffix);
  INTARSIA_RETURN_IF_ERROR(file_system_->CreateDirectories(folder_));
  INTARSIA_RETURN_IF_ERROR(index::WriteVectorFile(file_system_, path, params));
  return index::VectorFile::Open(file_system_, path);
}

void VectorFiles::Remove(const VectorFileChain& files) {
  if (!is_writable_) return;
  for (const auto& file : files) {
    const Status removed = file_system_->Remove(file->path());
    if (!removed.ok()) Log(LogLevel::kWarning, "vector file not removed: " + removed.ToString());
  }
}

Status VectorFiles::RemoveAll(storage::CollectionId collection) {
  const std::vector<Name> names = ListOf(collection);
  for (const Name& name : names) INTARSIA_RETURN_IF_ERROR(file_system_->Remove(name.path));
  return names.empty() ? Status::Ok() : file_system_->SyncDirectory(folder_);
}

std::vector<VectorFiles::Finding> VectorFiles::Check(storage::CollectionId collection) {
  std::vector<Finding> findings;
  for (const Name& name : ListOf(collection)) {
    const auto file = index::VectorFile::Open(file_system_, name.path);
    const Status status = file.ok() ? (*file)->Verify() : file.status();
    if (status.ok() || status.code() == StatusCode::kNotFound) continue;
    findings.push_back({name.path, std::string(status.message())});
  }
  return findings;
}

}  // namespace intarsia::engine
