// The types of layers: Mica's own, and those that people register.
#include "nn/layer_types.h"

#include <mutex>

#include "mica/nn/activation.h"
#include "mica/nn/attention.h"
#include "mica/nn/augment.h"
#include "mica/nn/conv1d.h"
#include "mica/nn/conv2d.h"
#include "mica/nn/conv2d_transpose.h"
#include "mica/nn/dense.h"
#include "mica/nn/depthwise_conv2d.h"
#include "mica/nn/dropout.h"
#include "mica/nn/embedding.h"
#include "mica/nn/functional.h"
#include "mica/nn/merge.h"
#include "mica/nn/norm.h"
#include "mica/nn/pool.h"
#include "mica/nn/position.h"
#include "mica/nn/recurrent.h"
#include "mica/nn/reshape.h"
#include "mica/nn/sequence.h"
#include "mica/nn/sequential.h"
#include "mica/nn/transformer.h"

namespace MICA_EXPORT mica {
namespace nn {

namespace {

struct Type {
  std::string name;
  const std::type_info* type;
  Layer (*make)();
};

std::mutex types_mutex;

template <class... Ts>
std::vector<Type> built_ins() {
  return {{Ts::kType, &typeid(Ts), +[]() -> Layer { return Ts{}; }}...};
}

std::vector<Type>& types() {
  static std::vector<Type> all =
      built_ins<Activation, Add, Average, AveragePool1D, AveragePool2D, BatchNorm, Bidirectional, Chain, Concatenate,
                Conv1D, Conv2D, Conv2DTranspose, Dense, DepthwiseConv2D, Dropout, Embedding, FeedForward, Flatten,
                GlobalAveragePool1D, GlobalAveragePool2D, GlobalMaxPool1D, GlobalMaxPool2D, Graph, GRU, GRUCell,
                LayerNorm, LSTM, LSTMCell, Masking, MaxPool1D, MaxPool2D, Maximum, Minimum, MultiHeadCrossAttention,
                MultiHeadSelfAttention, Multiply, PositionEmbedding, RandomFlip, RandomTranslation, Rescaling, Reshape,
                RNN, RNNCell, SinusoidalPositionEncoding, Subtract, TimeDistributed, TransformerDecoderLayer,
                TransformerEncoderLayer, UpSampling2D, WithMask, ZeroPadding2D>();
  return all;
}

}  // namespace

Layer (*find_layer_type(const std::string& name))() {
  const std::lock_guard lock(types_mutex);
  for (const Type& type : types())
    if (type.name == name) return type.make;
  return nullptr;
}

std::string registered_name(const Layer& layer) {
  const std::lock_guard lock(types_mutex);
  for (const Type& type : types())
    if (*type.type == layer.type_info()) return type.name;
  return {};
}

void register_layer(const std::string& name, const std::type_info& type, Layer (*make)()) {
  const std::lock_guard lock(types_mutex);
  for (const Type& known : types()) {
    if (known.name == name && *known.type == type) return;
    check(known.name != name, "register_layer", "the name \"", name, "\" is that of another type");
    check(*known.type != type, "register_layer", "the type has the name \"", known.name, "\" already");
  }
  types().push_back({name, &type, make});
}

}  // namespace nn
}  // namespace mica
