"""Thin modules over timm and SMP, and the standard U-Net."""

from models.backbone import (
    BackboneModel,
    accepts_single_sample,
    backbone_parameters,
    set_backbone_frozen,
)
from models.classification import Classifier
from models.compiled import compile_network
from models.cropping import Cropper
from models.registry import create_model, model_names
from models.segmentation import Segmenter
from models.timm_backbone import backbone_interpolation
from models.unet import UNet

__all__ = [
    "BackboneModel",
    "Classifier",
    "Cropper",
    "Segmenter",
    "UNet",
    "accepts_single_sample",
    "backbone_interpolation",
    "backbone_parameters",
    "compile_network",
    "create_model",
    "model_names",
    "set_backbone_frozen",
]
