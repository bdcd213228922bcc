"""Pictures of what a plan takes and how it fared: SVG that stands alone, PNG, and a text twin for the terminal."""

from arriero.planning.pictures.accuracy import Pair, accuracy_picture
from arriero.planning.pictures.loss_money import Choice, LossPoint, OverTraining, loss_money_picture
from arriero.planning.pictures.memory_bar import RankMemory, memory_picture
from arriero.planning.pictures.pareto import PlanPoint, pareto_picture
from arriero.planning.pictures.picture import Picture
from arriero.planning.pictures.png import png, png_available
from arriero.planning.pictures.roofline import Operation, Roof, roofline_picture
from arriero.planning.pictures.waterfall import Term, waterfall_picture
from arriero.planning.pictures.write import write_pictures, written_words

__all__ = [
    "Choice", "LossPoint", "Operation", "OverTraining", "Pair", "Picture", "PlanPoint", "RankMemory", "Roof", "Term",
    "accuracy_picture", "loss_money_picture", "memory_picture", "pareto_picture", "png", "png_available",
    "roofline_picture", "waterfall_picture", "write_pictures", "written_words",
]  # fmt: skip
