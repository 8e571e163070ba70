"""What the tasks of this project compute with: a bundle of any of them tells the versions of all, as far as they are installed."""

LIBRARIES = ("timm", "torch_geometric", "torch-pruning", "mtkahypar", "av", "onnxruntime", "openvino", "executorch")
