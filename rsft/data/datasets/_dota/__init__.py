"""How DOTA is stored: layout of the folders, label files, and windows around boxes."""
