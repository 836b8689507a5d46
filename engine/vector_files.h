// VectorFiles: the files in which vectors and codes of collections are kept for the next opening.
//
// index/vectors-<collection>-<first row>-<end row>.vec holds whole pages of rows. The files of a
// collection follow each other from row 0 on; which they are is found from their names and headers,
// so that a new one comes, and takes the place of others, by a rename. They are copies: a file is
// used only if it is of this database, collection and model, if it is not newer than the
// collection, and if no vector was replaced since. What is not used is removed.
//
// Thread safety: thread-safe; of one collection, calls that change something come one at a time.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "index/vector_file.h"
#include "storage/database.h"

namespace intarsia::engine {

// Of one collection, by rows, from row 0 on.
using VectorFileChain = std::vector<std::shared_ptr<const index::VectorFile>>;

class VectorFiles {
 public:
  // Of the files in `database`. Removes those that no collection will ever use, unless it is
  // read-only. Both outlive it.
  VectorFiles(storage::Database* database, FileSystem* file_system);

  // Whether files may be written and removed.
  bool is_writable() const { return is_writable_; }
  index::VectorFileIdentity IdentityOf(storage::CollectionId collection, storage::ModelId model,
                                       uint64_t generation) const;

  // The files of a collection that fit `view`, all of one model. Whatever is wrong with a file, it
  // is not used, and the log says so.
  VectorFileChain Open(const storage::ReadView& view, storage::CollectionId collection);

  // Writes params.rows [params.begin, params.end) and opens what it wrote.
  // Errors: those of index::WriteVectorFile and VectorFile::Open.
  Result<std::shared_ptr<const index::VectorFile>> Write(const index::VectorFileParams& params);

  // Removes the files of the chain. What cannot be removed is told to the log.
  void Remove(const VectorFileChain& files);
  // Removes all files of the collection. Errors: kIo; some may be left then.
  Status RemoveAll(storage::CollectionId collection);

  struct Finding {
    std::string path;
    std::string problem;
  };
  // Reads and verifies all files of the collection.
  std::vector<Finding> Check(storage::CollectionId collection);

 private:
  struct Name {
    std::string path;
    storage::CollectionId collection = 0;
    int64_t begin = 0;
    int64_t end = 0;
  };
  // The files of all collections, by rows, the longest first. `unfinished` gets those that were
  // never finished; it may be null.
  std::vector<Name> List(std::vector<std::string>* unfinished) const;
  std::vector<Name> ListOf(storage::CollectionId collection) const;
  void Sweep();
  // Why a file with this header is not used with `view`, or empty.
  std::string WhyNot(const index::VectorFileHeader& header, const Name& name,
                     const storage::ReadView& view) const;
  void RemoveFile(const std::string& path, const std::string& why);

  storage::Database* const database_;
  FileSystem* const file_system_;
  const std::string folder_;
  const bool is_writable_;
  std::array<uint8_t, 16> uuid_{};
};

}  // namespace intarsia::engine
