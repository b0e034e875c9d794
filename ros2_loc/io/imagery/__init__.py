"""Pictures of the ground from above, with their place on earth: GeoTIFF, MBTiles, folders and servers of XYZ tiles."""
