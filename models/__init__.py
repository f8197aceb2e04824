"""Thin modules over timm and SMP, and the standard U-Net."""

from models.backbone import BackboneModel, backbone_parameters, set_backbone_frozen
from models.registry import create_model, model_names
from models.segmentation import Segmenter
from models.unet import UNet

__all__ = [
    "BackboneModel",
    "Segmenter",
    "UNet",
    "backbone_parameters",
    "create_model",
    "model_names",
    "set_backbone_frozen",
]
