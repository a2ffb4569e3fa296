import copy
import random
import sys
import threading

import pytest
import torch

from modeling_dualvqa.embedding_cache_dualvqa import EmbeddingCache, tensor_digest


@pytest.fixture
def impatient():
    """Threads that take turns at every chance."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_threads_share_a_small_cache_and_its_byte_count_stays_exact(impatient):
    cache, failures = EmbeddingCache(max_bytes=1000), []

    def work(number):
        draw = random.Random(number)
        try:
            for _ in range(1500):
                key = draw.randrange(40)
                cache.put(key, torch.full((key + 1,), float(key)))
                found = cache.get(key)
                assert found is None or (found == key).all()
                if draw.random() < 0.01:
                    cache.clear()
        except Exception as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert cache.bytes == sum(tensor.nbytes for tensor in cache.entries.values()) <= 1000
    cache.put("one more", torch.zeros(9))
    assert cache.get("one more") is not None


def test_a_copy_of_a_cache_is_an_empty_one_of_the_same_size():
    cache = EmbeddingCache(max_bytes=100)
    cache.put("a", torch.zeros(3))
    other = copy.deepcopy(cache)
    assert other.max_bytes == 100 and not len(other) and other.bytes == 0 and len(cache) == 1


def test_images_of_the_same_bytes_and_another_shape_or_type_are_different():
    tensors = [torch.zeros(1, 3, 4, 8), torch.zeros(1, 3, 8, 4), torch.zeros(1, 3, 4, 8, dtype=torch.int32)]
    assert len({tensor_digest(tensor) for tensor in tensors}) == 3
    turned = torch.arange(6.0).reshape(2, 3).T
    assert tensor_digest(turned) == tensor_digest(turned.contiguous()) == tensor_digest(turned.requires_grad_())
