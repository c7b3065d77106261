"""Long-tailed data sets of photographs: CIFAR100-LT, Places-LT, iNaturalist 2018."""
