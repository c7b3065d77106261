"""Files of DOTA: layout of the folders, label files, and crop windows around boxes."""
