"""The Docker driver: hardened containers, their disks, and what proves their walls."""
