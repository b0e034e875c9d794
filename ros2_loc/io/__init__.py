"""The only room that touches files: images, cameras, trajectories, bags, KITTI. Everything that leaves it is a record of `core`."""
