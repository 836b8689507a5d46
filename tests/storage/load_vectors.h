// LoadVectors: all vectors of one model in one collection, as the database holds them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "storage/read_view.h"

namespace intarsia::storage {

// By ascending chunk id.
struct VectorSet {
  int64_t dimension = 0;
  std::vector<ChunkId> ids;
  std::vector<float> values;  // [ids.size(), dimension]
};

inline Result<VectorSet> LoadVectors(const ReadView& view, CollectionId collection, ModelId model) {
  VectorSet set;
  INTARSIA_RETURN_IF_ERROR(view.ForEachVector(
      collection, model, 0, [&set](ChunkId chunk, std::span<const float> vector) {
        set.dimension = std::ssize(vector);
        set.ids.push_back(chunk);
        set.values.insert(set.values.end(), vector.begin(), vector.end());
        return Status::Ok();
      }));
  return set;
}

}  // namespace intarsia::storage
