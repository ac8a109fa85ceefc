// A line through points, by gradient descent with the tape: the first thing to read.
#include <mica/mica.h>

#include <cstdio>

using namespace mica;

int main() {
  // 100 points on y = 3x - 2, with a little noise.
  const Tensor x = random_uniform({100, 1}, -1, 1, {1, 0});
  const Tensor noise = random_normal({100, 1}, 0, 0.1, {1, 1});
  const Tensor y = 3 * x - 2 + noise;

  // What is learned: y = x w + b, from zero.
  Parameter w(zeros({1, 1})), b(zeros({1}));

  for (int step = 0; step <= 100; ++step) {
    // Ops on parameters are recorded while a tape is in scope ...
    Tape tape;
    const Tensor prediction = matmul(x, w) + b;
    const Tensor loss = mean(square(prediction - y));

    // ... and backward() walks the record in reverse, leaving d(loss)/dw in w.gradient().
    tape.backward(loss);

    if (step % 20 == 0)
      std::printf("step %3d   loss %.4f   y = %.3f x %+.3f\n", step, loss.item(), w.value().item(), b.value().item());

    // A step downhill, written in place.
    w.value().copy_from(w.value() - 0.3 * w.gradient());
    b.value().copy_from(b.value() - 0.3 * b.gradient());
    w.zero_gradient();
    b.zero_gradient();
  }
}
