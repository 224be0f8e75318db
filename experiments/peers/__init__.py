"""What is compared with other libraries, and how. Workers of both sides run at once and take turns."""
